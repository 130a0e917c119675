//! Why an operator is refused, and what they are told.

use http::StatusCode;

use super::{events, guard, wanted};
use crate::failure::Failure;
use crate::gateway::operate;
use crate::problem::Problem;

/// Why an operator gets no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// As on the data plane: no such route, no token, no usable body.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// A page of another origin may have sent it.
    #[error(transparent)]
    Guard(#[from] guard::Error),
    /// It does not say what is wanted.
    #[error(transparent)]
    Wanted(#[from] wanted::Error),
    /// Too many look already.
    #[error(transparent)]
    Events(#[from] events::TooMany),
    /// It cannot be done.
    #[error(transparent)]
    Operate(#[from] operate::Error),
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let bad =
            |message: String| Self::new(StatusCode::BAD_REQUEST, "http_request_error", message);
        match error {
            Error::Failure(failure) => failure.into(),
            Error::Guard(error) => of_guard(*error),
            Error::Events(error) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "proxy_internal_error",
                format!("Close a console: {error}"),
            ),
            Error::Wanted(error) => bad(format!("This request cannot be understood: {error}")),
            Error::Operate(error) => match error {
                operate::Error::UnknownWorkspace => {
                    bad("workspace: there is none of this name".to_owned())
                }
                operate::Error::WhichWorkspace => {
                    bad("workspace: there are several; name one".to_owned())
                }
                operate::Error::Person(error) => {
                    bad(format!("No person can have this identifier: {error}"))
                }
                operate::Error::Interrupted => Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "proxy_internal_error",
                    "The gateway was stopped before this was done; repeat it",
                ),
                operate::Error::WorkspaceIdUnknown => Self::new(
                    StatusCode::CONFLICT,
                    "http_request_denied",
                    "uuid: Flameup's id of the workspace, which is part of such a lookup, is not \
                     known before a person was looked up by another name; or set workspace_id",
                ),
            },
        }
    }
}

fn of_guard(error: guard::Error) -> Problem {
    let message = match error {
        guard::Error::Site | guard::Error::Origin => {
            "Pages of another origin have no access to this listener"
        }
        guard::Error::Host => "Ask this listener by its address, or as localhost",
    };
    Problem::new(StatusCode::FORBIDDEN, "http_request_denied", message)
}
