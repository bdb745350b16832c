//! The sidecar as processes: what a person, a supervisor and an app see from outside.

#![expect(clippy::unwrap_used, reason = "all of this is tests")]

mod bad_settings_exit_64;
mod dev_serves;
mod drain_hands_over;
mod log_decides_nothing;
mod supervisor_restarts_member;
mod support;
mod three_members_form_a_cluster;
mod unix_socket_serves;
