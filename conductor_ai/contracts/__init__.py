"""Every model that crosses a boundary: workflow to activity, process to process, server to client.

All are frozen. What people write is refused if it has unknown fields; what our own processes hand to each other (`Payload`) is not. Field documentation stands under the field.
"""
