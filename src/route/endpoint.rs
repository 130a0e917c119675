//! The operations of the Flameup API beside the cached read: what each is called, which scope it
//! needs, and whom it may change.

use crate::config::Scope;

/// One operation of the Flameup API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// List people (get-people).
    ListPeople,
    /// Search people (get-workspaces-workspaceid-people-search).
    SearchPeople,
    /// Create a person (post-people).
    CreatePerson,
    /// Upsert a person (post-workspaces-workspaceid-people-upsert).
    UpsertPerson,
    /// Upsert many people (post-people-batch).
    BatchPeople,
    /// Update a person (put-people-id).
    UpdatePerson,
    /// Delete a person (authentication: the permission is documented, the path is not).
    DeletePerson,
    /// Track an event (post-track, post-workspaces-workspaceid-events).
    TrackEvent,
    /// List events (get-workspaces-workspaceid-events).
    ListEvents,
    /// Register a device (devices).
    RegisterDevice,
    /// List devices (get-workspaces-workspaceid-devices).
    ListDevices,
    /// Create a campaign (campaigns).
    CreateCampaign,
    /// Trigger a campaign (campaigns).
    TriggerCampaign,
    /// Send a push message (transactional).
    SendPush,
    /// Send a transactional message (transactional).
    SendTransactional,
    /// A read that is not documented.
    OtherRead,
    /// A request that is not documented and may change anything.
    OtherWrite,
}

/// Whom an operation may change, and where it says so beside its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nobody.
    None,
    /// The one person that path, request and answer name.
    Person,
    /// All people that the request's and the answer's `people` name.
    People,
    /// Perhaps the person that an event is about: its `last_seen_at` may move.
    Event,
    /// Perhaps the person that a device is of, for the same reason.
    Device,
    /// Anybody: nobody knows what the request does.
    Anything,
}

impl Endpoint {
    /// The permission it needs, in Flameup's words (authentication). Where no word covers it, it
    /// takes the permission for everything.
    pub fn scope(self) -> Scope {
        match self {
            Self::ListPeople | Self::SearchPeople => Scope::PeopleList,
            Self::CreatePerson | Self::UpsertPerson | Self::BatchPeople | Self::UpdatePerson => {
                Scope::PeopleWrite
            }
            Self::DeletePerson => Scope::PeopleDelete,
            Self::TrackEvent => Scope::EventsWrite,
            Self::ListEvents => Scope::EventsList,
            Self::RegisterDevice | Self::ListDevices => Scope::DevicesWrite,
            Self::CreateCampaign => Scope::CampaignsWrite,
            Self::TriggerCampaign => Scope::CampaignsTrigger,
            Self::SendPush | Self::SendTransactional | Self::OtherRead | Self::OtherWrite => {
                Scope::Everything
            }
        }
    }

    /// The word for it in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::ListPeople => "people_list",
            Self::SearchPeople => "people_search",
            Self::CreatePerson => "person_create",
            Self::UpsertPerson => "person_upsert",
            Self::BatchPeople => "people_batch",
            Self::UpdatePerson => "person_update",
            Self::DeletePerson => "person_delete",
            Self::TrackEvent => "event_track",
            Self::ListEvents => "events_list",
            Self::RegisterDevice => "device_register",
            Self::ListDevices => "devices_list",
            Self::CreateCampaign => "campaign_create",
            Self::TriggerCampaign => "campaign_trigger",
            Self::SendPush => "push_send",
            Self::SendTransactional => "transactional_send",
            Self::OtherRead | Self::OtherWrite => "other",
        }
    }

    /// Whom it may change.
    pub fn effect(self) -> Effect {
        match self {
            Self::CreatePerson | Self::UpsertPerson | Self::UpdatePerson | Self::DeletePerson => {
                Effect::Person
            }
            Self::BatchPeople => Effect::People,
            Self::TrackEvent => Effect::Event,
            Self::RegisterDevice => Effect::Device,
            Self::OtherWrite => Effect::Anything,
            Self::ListPeople
            | Self::SearchPeople
            | Self::ListEvents
            | Self::ListDevices
            | Self::CreateCampaign
            | Self::TriggerCampaign
            | Self::SendPush
            | Self::SendTransactional
            | Self::OtherRead => Effect::None,
        }
    }

    /// Whether its answer holds people as a read answers them.
    pub fn shows_people(self) -> bool {
        matches!(self, Self::ListPeople | Self::SearchPeople)
    }
}
