//! What tests of forwarded requests share: callers that may do everything, every documented route, and
//! an upstream that says what it is told to, byte by byte.

use tokio::net::TcpListener;

use super::harness::Setup;
use super::wire::{Wire, within};

/// The UUID that stands in long paths.
pub(crate) const UUID: &str = "123e4567-e89b-12d3-a456-426614174000";

/// The documented operations beside the cached read: method, path below `/api/v1`, scope, name.
pub(crate) const OPERATIONS: [(&str, &str, &str, &str); 23] = [
    ("GET", "people", "people:list", "people_list"),
    ("POST", "people", "people:write", "person_create"),
    ("POST", "people/batch", "people:write", "people_batch"),
    ("PUT", "people/user_1", "people:write", "person_update"),
    (
        "PATCH",
        "people/a%2Fb@x.org",
        "people:write",
        "person_update",
    ),
    ("DELETE", "people/user_1", "people:delete", "person_delete"),
    (
        "POST",
        "people/user_1/devices",
        "devices:write",
        "device_register",
    ),
    ("POST", "track", "events:write", "event_track"),
    ("POST", "push/send", "*", "push_send"),
    (
        "GET",
        "workspaces/ws_demo0001/people",
        "people:list",
        "people_list",
    ),
    (
        "GET",
        "workspaces/ws_demo0001/people/search",
        "people:list",
        "people_search",
    ),
    (
        "POST",
        "workspaces/ws_demo0001/people",
        "people:write",
        "person_create",
    ),
    (
        "POST",
        "workspaces/ws_demo0001/people/upsert",
        "people:write",
        "person_upsert",
    ),
    (
        "POST",
        "workspaces/ws_demo0001/people/batch",
        "people:write",
        "people_batch",
    ),
    (
        "PUT",
        "workspaces/ws_demo0001/people/123e4567-e89b-12d3-a456-426614174000",
        "people:write",
        "person_update",
    ),
    (
        "DELETE",
        "workspaces/ws_demo0001/people/123e4567-e89b-12d3-a456-426614174000",
        "people:delete",
        "person_delete",
    ),
    (
        "POST",
        "workspaces/ws_demo0001/events",
        "events:write",
        "event_track",
    ),
    (
        "GET",
        "workspaces/ws_demo0001/events",
        "events:list",
        "events_list",
    ),
    (
        "GET",
        "workspaces/ws_demo0001/devices",
        "devices:write",
        "devices_list",
    ),
    (
        "POST",
        "workspaces/ws_demo0001/campaigns",
        "campaigns:write",
        "campaign_create",
    ),
    (
        "POST",
        "workspaces/ws_demo0001/campaigns/camp_1/trigger",
        "campaigns:trigger",
        "campaign_trigger",
    ),
    (
        "POST",
        "workspaces/ws_demo0001/transactional/send",
        "*",
        "transactional_send",
    ),
    ("POST", "segments/new", "*", "other"),
];

/// The defaults, and callers that may do everything.
pub(crate) fn open() -> Setup {
    Setup::new()
        .config("cache.ttl_jitter = 0.0")
        .config("anonymous.workspace = \"default\"\nanonymous.scopes = [\"*\"]")
}

/// An upstream that a test plays itself.
pub(crate) struct Origin(TcpListener);

impl Origin {
    pub(crate) async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        Self(listener.expect("a free port"))
    }

    pub(crate) fn base_url(&self) -> String {
        let address = self.0.local_addr().expect("an address");
        format!("http://{address}")
    }

    /// The next connection that the gateway opens.
    pub(crate) async fn accept(&self) -> Wire {
        let (stream, _) = within(self.0.accept()).await.expect("a connection");
        Wire::over(stream)
    }
}
