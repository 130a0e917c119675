//! Who is asking: step 2 of the request path.
//!
//! A caller shows a client token, `Authorization: Bearer <token>`, or a certificate that names it, or
//! is anonymous where the configuration allows that. Tokens are compared as SHA-256 digests in constant
//! time, over the whole header value; one that has come before is known again by a keyed hash. No token
//! is kept, and nothing of the client's `Authorization` is ever forwarded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

pub mod certificate;
mod remembered;
mod siphash;

use crate::config::{Scope, Scopes};
use crate::limit::Limiter;
use crate::shield::Claim;
use crate::shield::queue::{CallerId, Class, Subject};
use crate::workspace::Workspace;
use certificate::ClientCertificate;
use remembered::Remembered;

/// One party that may ask, resolved when the configuration is read.
#[derive(Debug)]
pub struct Caller {
    name: Arc<str>,
    workspace: Arc<Workspace>,
    scopes: Scopes,
    id: CallerId,
    class: Class,
    weight: u32,
    limiter: Option<Arc<Limiter>>,
}

impl Caller {
    /// A caller of `workspace`; `name` is what metrics and logs call it, `id` tells it from all
    /// others.
    pub fn new(
        name: &str,
        id: CallerId,
        workspace: Arc<Workspace>,
        scopes: Scopes,
        class: Class,
        weight: u32,
    ) -> Self {
        Self {
            name: name.into(),
            workspace,
            scopes,
            id,
            class,
            weight,
            limiter: None,
        }
    }

    /// The same, held to limits if there are any.
    #[must_use]
    pub fn limited_by(mut self, limiter: Option<Arc<Limiter>>) -> Self {
        self.limiter = limiter;
        self
    }

    /// Its name and what holds it to its limits, if it has any.
    pub fn limited(&self) -> Option<(&str, &Arc<Limiter>)> {
        let limiter = self.limiter.as_ref();
        limiter.map(|limiter| (&*self.name, limiter))
    }

    /// What metrics and logs call it.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What tells it from all others.
    pub fn id(&self) -> CallerId {
        self.id
    }

    /// Its claim on the budget for one lookup that waits no longer than `patience`; whom it is of is
    /// yet to be said.
    pub fn claim(&self, patience: Duration) -> Claim {
        let (caller, class, weight) = (self.id, self.class, self.weight);
        Claim {
            caller,
            class,
            weight,
            patience,
            known: false,
            subject: Subject::default(),
            told: true,
        }
    }

    /// The one workspace it speaks for.
    pub fn workspace(&self) -> &Arc<Workspace> {
        &self.workspace
    }

    /// Checks that the caller may do what needs `scope`.
    ///
    /// # Errors
    /// [`Error::ScopeMissing`] when it may not.
    pub fn require(&self, scope: Scope) -> Result<(), Error> {
        if self.scopes.allows(scope) {
            Ok(())
        } else {
            Err(Error::ScopeMissing(scope))
        }
    }
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More than one `Authorization` line: who is meant would be a guess.
    #[error("the request has several Authorization headers")]
    SeveralCredentials,
    /// No `Authorization`, and nobody may be anonymous.
    #[error("the request has no client token")]
    NoToken,
    /// Not `Bearer`, or not a token of any client.
    #[error("the client token is not known")]
    UnknownToken,
    /// The token and the certificate, or two names in the certificate, are of different clients.
    #[error("the client's certificate names another client")]
    Disagreement,
    /// The caller is known and may not do this.
    #[error("the client lacks the scope {0}")]
    ScopeMissing(Scope),
}

/// All parties that may ask.
#[derive(Debug, Default)]
pub struct Callers {
    /// By the token's digest. Looking up by digest gives nothing away: to aim at a digest one
    /// would have to invert SHA-256. The comparison of the whole digest is constant in time.
    by_digest: HashMap<[u8; 32], Arc<Caller>, ahash::RandomState>,
    /// By a name in a certificate. What is compared is no secret.
    by_certificate: HashMap<String, Arc<Caller>, ahash::RandomState>,
    anonymous: Option<Arc<Caller>>,
    /// Those tokens of `by_digest` that have come.
    remembered: Remembered,
}

impl Callers {
    /// Lets whoever holds the token with this SHA-256 `digest` speak as `caller`.
    pub fn add(&mut self, digest: [u8; 32], caller: Arc<Caller>) {
        self.by_digest.insert(digest, caller);
        self.remembered = Remembered::for_tokens(self.by_digest.len());
    }

    /// Lets whoever shows a certificate with this `name` speak as `caller`.
    pub fn certify(&mut self, name: &str, caller: Arc<Caller>) {
        self.by_certificate.insert(name.to_owned(), caller);
    }

    /// Lets whoever shows no token speak as `caller`.
    pub fn allow_anonymous(&mut self, caller: Arc<Caller>) {
        self.anonymous = Some(caller);
    }

    /// All callers, those with several tokens or names several times.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Caller>> {
        let known = self.by_digest.values().chain(self.by_certificate.values());
        known.chain(&self.anonymous)
    }

    /// Finds out who sent a request with these `headers` over a connection with this `certificate`.
    ///
    /// Where no client has a token, `Authorization` means nothing (a service that just changed its
    /// base URL still sends its old Flameup key). Where some client has one, a token that is shown
    /// must be known: falling back to anonymous would hide a typing error. For the same reason it must
    /// be of the client that the certificate names, if it names one.
    ///
    /// # Errors
    /// When nobody can be found for sure; see [`Error`].
    pub fn identify(
        &self,
        headers: &HeaderMap,
        certificate: Option<&ClientCertificate>,
    ) -> Result<&Arc<Caller>, Error> {
        let shown = single_authorization(headers)?;
        if let Some(certificate) = certificate
            && let Some(certified) = self.of_certificate(certificate)?
        {
            return self.of_both(certified, shown);
        }
        match (shown, &self.anonymous) {
            (None, anonymous) => anonymous.as_ref().ok_or(Error::NoToken),
            (Some(_), Some(anonymous)) if self.by_digest.is_empty() => Ok(anonymous),
            (Some(value), _) => self.of_token(bearer(value.as_bytes())?),
        }
    }

    /// The caller that a certificate names, if it names one.
    fn of_certificate(
        &self,
        certificate: &ClientCertificate,
    ) -> Result<Option<&Arc<Caller>>, Error> {
        let named = certificate.names();
        let mut named = named.filter_map(|name| self.by_certificate.get(name));
        let Some(first) = named.next() else {
            return Ok(None);
        };
        let same = named.all(|other| other.id() == first.id());
        same.then_some(Some(first)).ok_or(Error::Disagreement)
    }

    fn of_both<'c>(
        &'c self,
        certified: &'c Arc<Caller>,
        shown: Option<&HeaderValue>,
    ) -> Result<&'c Arc<Caller>, Error> {
        match shown {
            Some(value) if !self.by_digest.is_empty() => {
                let by_token = self.of_token(bearer(value.as_bytes())?)?;
                let same = by_token.id() == certified.id();
                same.then_some(certified).ok_or(Error::Disagreement)
            }
            _ => Ok(certified),
        }
    }

    fn of_token(&self, token: &[u8]) -> Result<&Arc<Caller>, Error> {
        if let Some(caller) = self.remembered.find(token) {
            return Ok(caller);
        }
        let digest = digest(&SHA256, token);
        let caller = self
            .by_digest
            .get_key_value(digest.as_ref())
            .filter(|(known, _)| verify_slices_are_equal(&known[..], digest.as_ref()).is_ok())
            .map(|(_, caller)| caller)
            .ok_or(Error::UnknownToken)?;
        self.remembered.add(token, caller);
        Ok(caller)
    }
}

/// The bearer token that `headers` carry, if any.
///
/// # Errors
/// When there are several `Authorization` lines, or one that is not a bearer token.
pub fn bearer_token(headers: &HeaderMap) -> Result<Option<&[u8]>, Error> {
    single_authorization(headers)?
        .map(|value| bearer(value.as_bytes()))
        .transpose()
}

fn single_authorization(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Error> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let first = lines.next();
    if lines.next().is_some() {
        Err(Error::SeveralCredentials)
    } else {
        Ok(first)
    }
}

/// The token of `Bearer <token>`: the scheme in any case (RFC 9110 §11.1), one blank, and then
/// every byte counts.
fn bearer(value: &[u8]) -> Result<&[u8], Error> {
    const SCHEME: &[u8] = b"Bearer ";
    match value.split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty() => {
            Ok(token)
        }
        _ => Err(Error::UnknownToken),
    }
}
