//! The documented paths, and what each method does there.
//!
//! | Path below `/api/v1` | Methods |
//! |---|---|
//! | `people`, `workspaces/{ws}/people` | list `GET`, create `POST` |
//! | `people/batch`, `workspaces/{ws}/people/batch` | upsert many `POST` |
//! | `people/{id}`, `workspaces/{ws}/people/{uuid}` | read `GET`, update `PUT` and `PATCH`, delete `DELETE` |
//! | `people/{person_id}/devices` | register `POST` |
//! | `track`, `workspaces/{ws}/events` | track `POST` |
//! | `push/send` | send `POST` |
//! | `workspaces/{ws}/people/search` | search `GET` |
//! | `workspaces/{ws}/people/upsert` | upsert `POST` |
//! | `workspaces/{ws}/events` | list `GET` |
//! | `workspaces/{ws}/devices` | list `GET` |
//! | `workspaces/{ws}/campaigns` | create `POST` |
//! | `workspaces/{ws}/campaigns/{campaign_id}/trigger` | trigger `POST` |
//! | `workspaces/{ws}/transactional/send` | send `POST` |
//!
//! Where there is `GET` there is `HEAD`. `search`, `batch` and `upsert` in the place of an id are
//! words, not people, in both generations.

use http::Method;
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

use super::{Endpoint, Segments};
use crate::person::{self, PersonRef};

/// What stands behind a documented path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    People,
    Batch,
    Search,
    Upsert,
    Person(Generation),
    PersonDevices,
    Track,
    Events,
    Devices,
    Campaigns,
    Trigger,
    Push,
    Transactional,
}

/// Which of the two path forms names a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// `people/{id}`
    Short,
    /// `workspaces/{ws}/people/{uuid}`
    Long,
}

/// Finds what a path stands for. Words are compared decoded, so that no spelling of one slips by
/// as something else.
pub(super) fn find(segments: &Segments<'_>) -> Option<Resource> {
    let escaped = segments.iter().any(|segment| segment.contains('%'));
    if !escaped {
        return of_words(segments);
    }
    let decode = |segment: &&'_ str| percent_decode_str(segment).decode_utf8_lossy().into_owned();
    let decoded: SmallVec<[String; 6]> = segments.iter().map(decode).collect();
    let words: SmallVec<[&str; 6]> = decoded.iter().map(String::as_str).collect();
    of_words(&words)
}

fn of_words(words: &[&str]) -> Option<Resource> {
    let found = match words {
        ["workspaces", _, rest @ ..] => return of_long_words(rest),
        ["people"] => Resource::People,
        ["people", "batch"] => Resource::Batch,
        ["people", "search" | "upsert", ..] | ["people", "batch", "devices"] => return None,
        ["people", _] => Resource::Person(Generation::Short),
        ["people", _, "devices"] => Resource::PersonDevices,
        ["track"] => Resource::Track,
        ["push", "send"] => Resource::Push,
        _ => return None,
    };
    Some(found)
}

fn of_long_words(words: &[&str]) -> Option<Resource> {
    let found = match words {
        ["people"] => Resource::People,
        ["people", "batch"] => Resource::Batch,
        ["people", "search"] => Resource::Search,
        ["people", "upsert"] => Resource::Upsert,
        ["people", _] => Resource::Person(Generation::Long),
        ["events"] => Resource::Events,
        ["devices"] => Resource::Devices,
        ["campaigns"] => Resource::Campaigns,
        ["campaigns", _, "trigger"] => Resource::Trigger,
        ["transactional", "send"] => Resource::Transactional,
        _ => return None,
    };
    Some(found)
}

impl Resource {
    /// What `method` does there. The cached read is not among these.
    pub(super) fn endpoint(self, method: &Method) -> Option<Endpoint> {
        let method = if *method == Method::HEAD {
            "GET"
        } else {
            method.as_str()
        };
        let found = match (self, method) {
            (Self::People, "GET") => Endpoint::ListPeople,
            (Self::People, "POST") => Endpoint::CreatePerson,
            (Self::Batch, "POST") => Endpoint::BatchPeople,
            (Self::Search, "GET") => Endpoint::SearchPeople,
            (Self::Upsert, "POST") => Endpoint::UpsertPerson,
            (Self::Person(_), "PUT" | "PATCH") => Endpoint::UpdatePerson,
            (Self::Person(_), "DELETE") => Endpoint::DeletePerson,
            (Self::PersonDevices, "POST") => Endpoint::RegisterDevice,
            (Self::Track | Self::Events, "POST") => Endpoint::TrackEvent,
            (Self::Events, "GET") => Endpoint::ListEvents,
            (Self::Devices, "GET") => Endpoint::ListDevices,
            (Self::Campaigns, "POST") => Endpoint::CreateCampaign,
            (Self::Trigger, "POST") => Endpoint::TriggerCampaign,
            (Self::Push, "POST") => Endpoint::SendPush,
            (Self::Transactional, "POST") => Endpoint::SendTransactional,
            _ => return None,
        };
        Some(found)
    }

    /// The methods it takes, as `Allow` lists them.
    pub(super) fn allow(self) -> &'static str {
        match self {
            Self::People | Self::Events => "GET, HEAD, POST",
            Self::Person(_) => "GET, HEAD, PUT, PATCH, DELETE",
            Self::Search | Self::Devices => "GET, HEAD",
            Self::Batch
            | Self::Upsert
            | Self::PersonDevices
            | Self::Track
            | Self::Campaigns
            | Self::Trigger
            | Self::Push
            | Self::Transactional => "POST",
        }
    }
}

impl Generation {
    /// The person whom the path names.
    pub(super) fn person<'a>(
        self,
        segments: &Segments<'a>,
    ) -> Result<PersonRef<'a>, person::Error> {
        let segment = |at: usize| segments.get(at).copied().unwrap_or_default();
        match self {
            Self::Short => PersonRef::from_id(segment(1)),
            Self::Long => PersonRef::from_uuid(segment(1), segment(3)),
        }
    }
}
