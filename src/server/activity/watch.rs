//! Looks at a connection from time to time, and finds the time limits it is beyond.
//!
//! A look counts how long it has seen the same, so a limit is kept to within one look.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{Activity, Phase, TURNS_OF_PATIENCE};
use crate::config::Limits;
use crate::server::numbers::Limit;

/// How long a client that was told to leave may take to hear it.
const PARTING: Duration = Duration::from_secs(1);

/// Counts how long a connection has been seen in one phase.
#[derive(Debug)]
pub(in crate::server) struct Watch {
    first_request_timeout: Duration,
    header_timeout: Duration,
    send_timeout: Duration,
    /// The idle timeout until the connection is asked to end.
    pause: Duration,
    multiplexed: bool,
    begun: Instant,
    seen: (Phase, u32),
    since: Instant,
    /// The header block that was seen open, and since when.
    block: Option<(u32, Instant)>,
    /// When the next counter of what is unsent has its turn.
    next_turn: Instant,
    parting: Option<Instant>,
}

/// What a look at a connection calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Look {
    /// Nothing.
    Fine,
    /// It may end between two requests.
    Ripe(Option<Limit>),
    /// A request's head does not come to an end.
    HeadTooSlow(Limit),
    /// It has been idle for too long, or its client does not take its answer.
    Unused(Limit),
    /// Its client does not take one of several answers.
    Stuck(Limit),
    /// Its client was told to leave and had the time to.
    Parted,
}

impl Look {
    /// The limit that was met.
    pub(in crate::server) fn limit(self) -> Option<Limit> {
        match self {
            Self::Fine | Self::Parted => None,
            Self::Ripe(limit) => limit,
            Self::HeadTooSlow(limit) | Self::Unused(limit) | Self::Stuck(limit) => Some(limit),
        }
    }
}

impl Watch {
    /// Watches a connection that begins at `now`. Bytes on a `multiplexed` one (HTTP/2) need not
    /// belong to a request.
    pub(in crate::server) fn new(limits: &Limits, multiplexed: bool, now: Instant) -> Self {
        Self {
            first_request_timeout: limits.first_request_timeout,
            header_timeout: limits.header_timeout,
            send_timeout: limits.send_timeout,
            pause: limits.idle_timeout,
            multiplexed,
            begun: now,
            seen: (Phase::Idle, 0),
            since: now,
            block: None,
            next_turn: now + limits.send_timeout / TURNS_OF_PATIENCE,
            parting: None,
        }
    }

    /// How often to look, so that a limit is overrun by a quarter at most.
    pub(in crate::server) fn interval(limits: &Limits) -> Duration {
        const SHORTEST: Duration = Duration::from_millis(10);
        const LONGEST: Duration = Duration::from_secs(5);
        let of_heads = limits.header_timeout.min(limits.first_request_timeout);
        let of_answers = limits.idle_timeout.min(limits.send_timeout);
        (of_heads.min(of_answers) / 4).clamp(SHORTEST, LONGEST)
    }

    /// Lets a connection that was asked to end pause no longer than `pause`.
    pub(in crate::server) fn shorten_pause(&mut self, pause: Duration) {
        self.pause = self.pause.min(pause);
        self.header_timeout = self.header_timeout.min(pause);
    }

    /// Looks at the connection.
    pub(in crate::server) fn look(&mut self, activity: &Activity, now: Instant) -> Look {
        if self.multiplexed {
            let look = self.look_at_streams(activity, now);
            if look != Look::Fine {
                return look;
            }
        }
        let phase = match activity.phase() {
            Phase::Head if self.multiplexed => Phase::Idle,
            phase => phase,
        };
        let requests = activity.requests.load(Ordering::Relaxed);
        let waits = matches!(phase, Phase::Idle | Phase::Head);
        if waits && requests == 0 && self.age(now) >= self.first_request_timeout {
            // Who has begun to say something is told why it is not heard.
            return match phase {
                Phase::Head => Look::HeadTooSlow(Limit::FirstRequestTimeout),
                _ => Look::Unused(Limit::FirstRequestTimeout),
            };
        }
        let seen = (phase, requests);
        if seen != self.seen {
            (self.seen, self.since) = (seen, now);
            return Look::Fine;
        }
        let lasted = now.saturating_duration_since(self.since);
        match phase {
            Phase::Head if lasted >= self.header_timeout => Look::HeadTooSlow(Limit::HeaderTimeout),
            Phase::Idle if lasted >= self.pause => Look::Unused(Limit::IdleTimeout),
            Phase::Answering if lasted >= self.send_timeout => Look::Unused(Limit::SendTimeout),
            // The application has deadlines of its own; the others are not over yet.
            Phase::Busy | Phase::Head | Phase::Idle | Phase::Answering => Look::Fine,
        }
    }

    /// Looks at what may be stuck on HTTP/2 while other requests come and go.
    fn look_at_streams(&mut self, activity: &Activity, now: Instant) -> Look {
        if activity.parting.load(Ordering::Relaxed) {
            let since = *self.parting.get_or_insert(now);
            let parted = now.saturating_duration_since(since) >= PARTING;
            return if parted { Look::Parted } else { Look::Fine };
        }
        if now >= self.next_turn {
            self.next_turn = now + self.send_timeout / TURNS_OF_PATIENCE;
            activity.unsent.take_turns();
            if activity.unsent.has_old() {
                return Look::Stuck(Limit::SendTimeout);
            }
        }
        let number = activity.blocks.load(Ordering::Relaxed);
        let open = activity.head_begun.load(Ordering::Relaxed);
        let (seen, since) = self.block.unwrap_or((number, now));
        self.block = open.then_some((number, if seen == number { since } else { now }));
        match self.block {
            Some((_, since)) if now.saturating_duration_since(since) >= self.header_timeout => {
                Look::HeadTooSlow(Limit::HeaderTimeout)
            }
            _ => Look::Fine,
        }
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Config, Sources};

    fn limits() -> Limits {
        let key = [("FLAMEUP_API_KEY", "ws_test_a.b")];
        let config = Config::load(&Sources::inline("", key)).expect("the defaults");
        Limits {
            first_request_timeout: seconds(20),
            header_timeout: seconds(10),
            send_timeout: seconds(30),
            idle_timeout: seconds(75),
            ..config.config.server.limits
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_head_that_never_ends_is_too_slow_however_often_a_byte_comes() {
        let activity = Arc::new(Activity::default());
        let now = Instant::now();
        let mut watch = Watch::new(&limits(), false, now);
        activity.received();
        assert_eq!(watch.look(&activity, now), Look::Fine);
        for second in 1..10 {
            activity.received();
            assert_eq!(watch.look(&activity, now + seconds(second)), Look::Fine);
        }
        let look = watch.look(&activity, now + seconds(10));
        assert_eq!(look, Look::HeadTooSlow(Limit::HeaderTimeout));
    }

    #[test]
    fn a_request_under_way_is_left_alone_and_a_pause_after_it_is_not() {
        let activity = Arc::new(Activity::default());
        let now = Instant::now();
        let mut watch = Watch::new(&limits(), false, now);
        activity.received();
        let request = activity.begin();
        assert_eq!(watch.look(&activity, now), Look::Fine);
        assert_eq!(watch.look(&activity, now + seconds(1000)), Look::Fine);
        let answer = request.answered();
        assert_eq!(activity.phase(), Phase::Answering);
        activity.flushed();
        assert_eq!(
            activity.phase(),
            Phase::Answering,
            "hyper still has some of it"
        );
        drop(answer);
        assert_eq!(activity.phase(), Phase::Answering);
        activity.flushed();
        assert_eq!(activity.phase(), Phase::Idle);
        assert_eq!(watch.look(&activity, now + seconds(1000)), Look::Fine);
        assert_eq!(watch.look(&activity, now + seconds(1074)), Look::Fine);
        let look = watch.look(&activity, now + seconds(1075));
        assert_eq!(look, Look::Unused(Limit::IdleTimeout));
    }

    #[test]
    fn an_answer_whose_next_piece_is_still_to_come_is_not_the_clients_fault() {
        let activity = Arc::new(Activity::default());
        let now = Instant::now();
        let mut watch = Watch::new(&limits(), false, now);
        let answer = activity.begin().answered();
        let waiting = answer.waits();
        assert_eq!(watch.look(&activity, now), Look::Fine);
        assert_eq!(watch.look(&activity, now + seconds(1000)), Look::Fine);
        drop(waiting);
        assert_eq!(watch.look(&activity, now + seconds(1001)), Look::Fine);
        let look = watch.look(&activity, now + seconds(1031));
        assert_eq!(look, Look::Unused(Limit::SendTimeout));
    }

    #[test]
    fn asking_a_connection_to_end_cuts_no_answer_short() {
        let activity = Arc::new(Activity::default());
        let now = Instant::now();
        let mut watch = Watch::new(&limits(), true, now);
        watch.shorten_pause(seconds(1));
        let answer = activity.begin().answered();
        assert_eq!(watch.look(&activity, now), Look::Fine);
        assert_eq!(watch.look(&activity, now + seconds(20)), Look::Fine);
        drop(answer);
        activity.flushed();
        assert_eq!(watch.look(&activity, now + seconds(20)), Look::Fine);
        let look = watch.look(&activity, now + seconds(21));
        assert_eq!(look, Look::Unused(Limit::IdleTimeout));
    }

    #[test]
    fn requests_between_two_looks_start_the_pause_anew() {
        let activity = Arc::new(Activity::default());
        let now = Instant::now();
        let mut watch = Watch::new(&limits(), false, now);
        for second in [50, 100, 150] {
            activity.received();
            drop(activity.begin().answered());
            activity.flushed();
            assert_eq!(watch.look(&activity, now + seconds(second)), Look::Fine);
        }
    }

    #[test]
    fn a_connection_without_a_request_has_the_time_of_a_first_one() {
        for multiplexed in [false, true] {
            let activity = Activity::default();
            let now = Instant::now();
            let mut watch = Watch::new(&limits(), multiplexed, now);
            if multiplexed {
                activity.received(); // A preface is no request.
            }
            assert_eq!(watch.look(&activity, now + seconds(19)), Look::Fine);
            let look = watch.look(&activity, now + seconds(20));
            assert_eq!(look, Look::Unused(Limit::FirstRequestTimeout));
        }
    }

    #[test]
    fn a_client_that_does_not_take_its_answer_is_let_go() {
        let activity = Arc::new(Activity::default());
        let now = Instant::now();
        let mut watch = Watch::new(&limits(), false, now);
        drop(activity.begin().answered());
        assert_eq!(watch.look(&activity, now), Look::Fine);
        let look = watch.look(&activity, now + seconds(30));
        assert_eq!(look, Look::Unused(Limit::SendTimeout));
    }

    #[test]
    fn a_header_block_must_end_whatever_else_goes_on() {
        let activity = Arc::new(Activity::default());
        let now = Instant::now();
        let mut watch = Watch::new(&limits(), true, now);
        for second in [0, 4, 8, 12, 16] {
            activity.has_open_block(true);
            assert_eq!(watch.look(&activity, now + seconds(second)), Look::Fine);
            activity.has_open_block(false);
            drop(activity.begin().answered());
            activity.flushed();
        }
        activity.has_open_block(true);
        for second in [20, 25, 29] {
            assert_eq!(watch.look(&activity, now + seconds(second)), Look::Fine);
            drop(activity.begin().answered());
            activity.flushed();
        }
        let look = watch.look(&activity, now + seconds(30));
        assert_eq!(look, Look::HeadTooSlow(Limit::HeaderTimeout));
    }

    #[test]
    fn one_answer_that_is_not_taken_is_noticed_among_others_that_are() {
        let activity = Arc::new(Activity::default());
        let now = Instant::now();
        let mut watch = Watch::new(&limits(), true, now);
        let stuck = activity.hands_over();
        let mut ended_at = None;
        for second in 0..60 {
            drop(activity.begin().answered());
            drop(activity.hands_over());
            if watch.look(&activity, now + seconds(second)) == Look::Stuck(Limit::SendTimeout) {
                ended_at = Some(second);
                break;
            }
        }
        assert!(
            ended_at.is_some_and(|second| (30..=45).contains(&second)),
            "{ended_at:?}"
        );
        drop(stuck);
        assert!(!activity.unsent.has_old());
    }

    #[test]
    fn answers_that_are_taken_in_time_may_follow_each_other_for_ever() {
        let activity = Arc::new(Activity::default());
        let now = Instant::now();
        let mut watch = Watch::new(&limits(), true, now);
        let mut last = None;
        for second in (0..600).step_by(5) {
            drop(activity.begin().answered());
            last = last
                .filter(|_| second % 20 != 0)
                .or_else(|| Some(activity.hands_over()));
            assert_eq!(watch.look(&activity, now + seconds(second)), Look::Fine);
        }
    }
}
