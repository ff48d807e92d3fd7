"""Which functions a statement may call, by name. Pure.

The names come from pg_proc of PostgreSQL 18 (`catalog_names.py`): every function whose overloads are all immutable or
stable, minus the families below. What is in neither list is unknown here and is looked up in the target's own pg_proc
before it runs (`catalog.py`).
"""

from activities.sql.catalog_names import QUIET_NAMES
from activities.sql.reasons import Reason

HARMLESS_VOLATILE = frozenset(
    [
        "random",
        "random_normal",
        "gen_random_uuid",
        "uuidv4",
        "uuidv7",
        "clock_timestamp",
        "timeofday",
        "array_shuffle",
        "array_sample",
        "pg_relation_size",
        "pg_table_size",
        "pg_indexes_size",
        "pg_total_relation_size",
        "pg_database_size",
        "current_query",
        "pg_partition_tree",
        "pg_partition_ancestors",
        "pg_is_in_recovery",
    ]
)
"""Volatile in name only: they change nothing that outlives the statement."""

SEQUENCE_WRITERS = frozenset({"nextval"})
"""Allowed, but they make a statement a write, and no rollback undoes them."""

_EXACT: dict[Reason, str] = {
    Reason.FUNCTION_RUNS_SQL: (
        "query_to_xml query_to_xmlschema query_to_xml_and_xmlschema cursor_to_xml cursor_to_xmlschema table_to_xml "
        "table_to_xmlschema table_to_xml_and_xmlschema schema_to_xml schema_to_xmlschema schema_to_xml_and_xmlschema "
        "database_to_xml database_to_xmlschema database_to_xml_and_xmlschema ts_stat ts_rewrite connectby crosstab "
        "crosstab2 crosstab3 crosstab4 crosstab_hash xpath_table execute exec_sql run_sql"
    ),
    Reason.FUNCTION_FILES: (
        "pg_stat_file pg_current_logfile pg_rotate_logfile pg_hba_file_rules pg_ident_file_mappings "
        "pg_show_all_file_settings pg_tablespace_databases pg_tablespace_location pg_available_extensions "
        "pg_available_extension_versions pg_extension_update_paths pg_config pg_relation_filepath "
        "pg_available_wal_summaries pg_wal_summary_contents pg_file_write pg_file_read pg_file_rename pg_file_unlink "
        "pg_file_sync pg_logdir_ls"
    ),
    Reason.FUNCTION_LARGE_OBJECTS: "loread lowrite",
    Reason.FUNCTION_SESSIONS: (
        "pg_cancel_backend pg_terminate_backend pg_cursor pg_prepared_statement pg_prepared_xact lastval currval "
        "pg_stat_get_activity pg_stat_get_wal_senders pg_stat_get_wal_receiver pg_stat_get_progress_info "
        "pg_export_snapshot pg_stat_clear_snapshot pg_stat_force_next_flush"
    ),
    Reason.FUNCTION_LOCKS: (
        "pg_lock_status pg_blocking_pids pg_safe_snapshot_blocking_pids pg_isolation_test_session_is_blocked"
    ),
    Reason.FUNCTION_NOTIFIES: "pg_notify pg_listening_channels pg_notification_queue_usage",
    Reason.FUNCTION_NETWORK: "http http_get http_post http_put http_patch http_delete http_head",
    Reason.FUNCTION_SETTINGS: "set_config setseed setval pg_reload_conf",
    Reason.FUNCTION_SERVER: (
        "pg_promote pg_switch_wal pg_create_restore_point pg_backup_start pg_backup_stop pg_get_replication_slots "
        "pg_show_replication_origin_status pg_stop_making_pinned_objects pg_nextoid currtid2"
    ),
}

_PREFIXES: tuple[tuple[str, Reason], ...] = (
    ("pg_read_", Reason.FUNCTION_FILES),
    ("pg_ls_", Reason.FUNCTION_FILES),
    ("lo_", Reason.FUNCTION_LARGE_OBJECTS),
    ("pg_stat_get_backend_", Reason.FUNCTION_SESSIONS),
    ("pg_advisory_", Reason.FUNCTION_LOCKS),
    ("pg_try_advisory_", Reason.FUNCTION_LOCKS),
    ("pg_sleep", Reason.FUNCTION_SLEEPS),
    ("dblink", Reason.FUNCTION_NETWORK),
    ("postgres_fdw_", Reason.FUNCTION_NETWORK),
    ("pg_logical_", Reason.FUNCTION_SERVER),
    ("pg_replication_", Reason.FUNCTION_SERVER),
    ("pg_create_", Reason.FUNCTION_SERVER),
    ("pg_copy_", Reason.FUNCTION_SERVER),
    ("pg_drop_", Reason.FUNCTION_SERVER),
    ("pg_log_", Reason.FUNCTION_SERVER),
    ("pg_stat_reset", Reason.FUNCTION_SERVER),
    ("pg_restore_", Reason.FUNCTION_SERVER),
    ("pg_clear_", Reason.FUNCTION_SERVER),
    ("pg_control_", Reason.FUNCTION_SERVER),
    ("pg_wal_replay_", Reason.FUNCTION_SERVER),
    ("pg_event_trigger_", Reason.FUNCTION_SERVER),
    ("binary_upgrade_", Reason.FUNCTION_SERVER),
)

_DENIED: dict[str, Reason] = {name: reason for reason, names in _EXACT.items() for name in names.split()}


def denied(name: str) -> Reason | None:
    """The reason for which a function of that name is refused in any schema, or None."""
    exact = _DENIED.get(name)
    if exact is not None or name in SEQUENCE_WRITERS or name in HARMLESS_VOLATILE:
        return exact
    return next((reason for prefix, reason in _PREFIXES if name.startswith(prefix)), None)


def known_quiet(schema: str, name: str) -> bool:
    """True for a function of pg_catalog that is known to change nothing."""
    return schema in ("", "pg_catalog") and (name in QUIET_NAMES or name in HARMLESS_VOLATILE)
