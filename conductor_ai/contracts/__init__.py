"""Every model that crosses a boundary: workflow to activity, process to process, server to client.

All are frozen and refuse unknown fields. Field documentation stands under the field.
"""
