//! A budget that several gateways share: units come in leases, from a purse that all of them have.
//!
//! Pure, as all of the budget: whoever asks the purse brings what it [reports](Report) there, and
//! comes back with a [`Grant`].
//!
//! While the purse answers, nothing starts but out of leased units: the purse has counted them before.
//! While it does not, each gateway has an equal share of the limit to itself, less a fifth, by its own
//! log. Others' use is nobody else's in either case.
//!
//! # Invariants
//! - Whatever was spent is told until the purse is known to have heard it, with how long ago it was.
//! - In the first window without the purse, a gateway spends no more than what it has spent before, its
//!   part of what nobody had, and one lease: if one has had all the budget, the others do not spend
//!   theirs beside it. So where all lose the purse, they stay within the limit and one lease each. Where
//!   one alone loses it, its share comes on top until the others hear of it from answers.

use std::time::{Duration, Instant};

use super::Budget;

/// Share of an equal part of the limit that a gateway spends by itself: what others have spent is told
/// by nobody then, and how many they are is known from before.
const ALONE: f64 = 0.8;

/// Most units that a gateway has at a time; the purse's own bound.
pub const MOST_LEASED: u32 = 10;

/// After so long, units beyond the stock that nobody has wanted go back: others may.
const LAPSE: Duration = Duration::from_millis(500);

/// For so long a refresh that found no unit is remembered, so that the next one does.
const REFRESHING: Duration = Duration::from_secs(1);

/// Units that all gateways together keep in stock: at most this part of the limit, as a hundred sidecars
/// would keep nearly all of it.
const STOCKED: u32 = 10;

/// Most units that one gateway keeps in stock: what comes in the time of a report at two a second, and
/// two more that come together.
const MOST_STOCKED: u32 = 3;

/// Units are kept in stock for as long after the last request.
const BUSY: Duration = Duration::from_secs(10);

/// For so long after units are leased again, others are not taken for gone.
const SETTLED: Duration = Duration::from_secs(5);

/// What waits for the purse looks again at least so much later. The purse's answer wakes it.
const GLANCE: Duration = Duration::from_millis(50);

/// Between two reports while there is something to tell: others may have what is not wanted.
pub const REPORT_EVERY: Duration = Duration::from_millis(500);

/// Between two reports while there is nothing. Well below what the purse takes a gateway for gone after.
pub const REPORT_IDLE: Duration = Duration::from_secs(2);

/// The shortest time between two reports while somebody waits: units come at two a second.
pub const REPORT_SOON: Duration = Duration::from_millis(20);

/// The purse is gone if it has failed to answer for so long.
pub const GONE_AFTER: Duration = Duration::from_secs(1);

/// What a gateway tells the purse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Units spent that it has not told of: by how many whole seconds ago that was.
    pub spent: Vec<(u32, u32)>,
    /// Units told of before these, ever.
    told: u64,
    /// Units spent, ever.
    total: u64,
    /// Units that it has, those included that are under way.
    pub has: u32,
    /// Units that it wants more: for interactive, service and batch requests, and in stock.
    pub wants: [u32; 4],
    /// The limit as it knows it.
    pub limit: u32,
    /// Whether it has learned that since it last told.
    pub has_learned: bool,
    /// For how long a 429 holds everybody off.
    pub held_for: Duration,
    /// Units that all have used in the window, as the last answer told.
    pub used: Option<u32>,
}

/// What the purse says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grant {
    /// Units that are leased.
    pub units: u32,
    /// The limit.
    pub limit: u32,
    /// For how long nothing is to be sent.
    pub held_for: Duration,
    /// How many share it.
    pub gateways: u32,
    /// When more may be had.
    pub next_in: Duration,
    /// Part of what all want that this gateway wants, 0 to 1.
    pub share: f64,
    /// Units that nobody has.
    pub free: u32,
    /// The purse is too new to lease anything: it may have lost what was spent.
    pub is_new: bool,
    /// Units that may be leased at once.
    pub ready: u32,
    /// The purse has not known this gateway, and so may have lost what it told. It has not taken in what
    /// this report says was spent.
    pub is_unknown: bool,
}

impl Report {
    /// When to report again if nobody wants anything until then. Who has nothing spends nothing before
    /// it has asked.
    pub fn again_in(&self) -> Duration {
        let wants = self.wants.iter().sum::<u32>();
        if self.has == 0 && wants == 0 && self.spent.is_empty() {
            REPORT_IDLE
        } else {
            REPORT_EVERY
        }
    }

    /// As the purse takes it, after who reports; for a budget of this window.
    pub fn numbers(&self, window: Duration) -> Vec<i64> {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let mut numbers = vec![self.has.into()];
        numbers.extend(self.wants.map(i64::from));
        numbers.extend([
            self.limit.into(),
            self.has_learned.into(),
            ms(window),
            ms(self.held_for),
            self.used.map_or(-1, i64::from),
            i64::try_from(self.total).unwrap_or(i64::MAX),
        ]);
        let spent = self.spent.iter();
        numbers.extend(spent.flat_map(|&(age_s, units)| [i64::from(age_s), units.into()]));
        numbers
    }
}

/// As the purse gives it.
impl From<[u32; 10]> for Grant {
    fn from(numbers: [u32; 10]) -> Self {
        let [
            units,
            limit,
            held_ms,
            gateways,
            next_ms,
            share,
            free,
            is_new,
            ready,
            is_unknown,
        ] = numbers;
        Self {
            units,
            limit,
            held_for: Duration::from_millis(held_ms.into()),
            gateways,
            next_in: Duration::from_millis(next_ms.into()),
            share: f64::from(share) / 1000.0,
            free,
            is_new: is_new == 1,
            ready,
            is_unknown: is_unknown == 1,
        }
    }
}

impl Grant {
    /// When somebody who waits should ask again: others may give back what they have.
    pub fn ask_again_in(&self) -> Duration {
        if self.is_unknown {
            return REPORT_SOON;
        }
        (self.next_in / 2).clamp(REPORT_SOON, REPORT_EVERY)
    }
}

/// How units are had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// From the purse.
    Leased,
    /// As a share of one's own, as the purse does not answer.
    Alone,
}

/// What a gateway has of the common budget.
#[derive(Debug)]
pub(super) struct Lease {
    mode: Mode,
    gateways: u32,
    /// Where among all gateways this one stands, from 0 to 1: who has less than a unit a window takes
    /// turns.
    turn: f64,
    /// Since when units are leased without a break.
    leased_since: Option<Instant>,
    in_hand: u32,
    had_at: Instant,
    /// Units spent, ever, of which the purse was told.
    told: u64,
    /// Since when units were last not leased, and how many may count in the first window of that.
    alone_since: Instant,
    most_at_first: u32,
    /// The limit as it was told last.
    limit: u32,
    used: Option<u32>,
    /// The purse's last words, and when they came.
    last: Option<(Grant, Instant)>,
    /// When a unit was spent last.
    busy_at: Option<Instant>,
    /// When a refresh found none.
    refresh_at: Option<Instant>,
}

impl Lease {
    /// Nothing in hand, and so many who share.
    pub(super) fn new(gateways: u32, turn: f64, limit: u32, now: Instant) -> Self {
        Self {
            mode: Mode::Alone,
            gateways: gateways.max(1),
            turn: turn.clamp(0.0, 1.0),
            leased_since: None,
            in_hand: 0,
            had_at: now,
            told: 0,
            alone_since: now,
            most_at_first: u32::MAX,
            limit,
            used: None,
            last: None,
            busy_at: None,
            refresh_at: None,
        }
    }

    /// Takes `cost` units, or as many as there are: what a request costs beyond one is a price. Returns
    /// how many.
    pub(super) fn take(&mut self, cost: u32, now: Instant) -> u32 {
        let taken = self.in_hand.min(cost);
        self.in_hand -= taken;
        self.busy_at = Some(now);
        taken
    }

    /// Takes back units of which nothing was sent.
    pub(super) fn put_back(&mut self, cost: u32) {
        if self.mode == Mode::Leased {
            self.in_hand = (self.in_hand + cost).min(MOST_LEASED);
        }
    }

    /// Goes on by its own share, with so many units counting.
    fn go_alone(&mut self, counting: u32, now: Instant) {
        if self.mode == Mode::Leased {
            let free = self.last.map_or(0, |(grant, _)| grant.free);
            // Others may have been given some since.
            let part = free.saturating_sub(MOST_LEASED) / self.gateways;
            self.alone_since = now;
            self.most_at_first = counting + part + MOST_LEASED;
            self.in_hand = 0;
            self.leased_since = None;
            self.mode = Mode::Alone;
        }
    }

    /// Notes what all have used, as an answer told.
    pub(super) fn hear(&mut self, used: u32) {
        self.used = Some(used);
    }

    /// When a unit may be had if `ahead` are spent before; `None` where a share of one's own decides.
    fn opening(&self, ahead: u32, limit: u32, window: Duration, now: Instant) -> Option<Instant> {
        if self.mode == Mode::Alone {
            return None;
        }
        let Some(missing) = ahead.checked_sub(self.in_hand) else {
            return Some(now);
        };
        let (grant, heard) = self.last?;
        let next = (heard + grant.next_in).max(now + GLANCE);
        let share = grant.share.clamp(0.05, 1.0);
        let interval = (window / limit.max(1)).div_f64(share);
        Some(next + interval.saturating_mul(missing.saturating_sub(grant.ready)))
    }

    /// When the next unit may be spent alone where many gateways have less than one a window each.
    fn rarely(&self, limit: u32, window: Duration, now: Instant) -> Instant {
        let share = f64::from(limit) / f64::from(self.gateways) * ALONE;
        if share >= 1.0 {
            return now;
        }
        let interval = window.div_f64(share);
        let first = self.alone_since + interval.mul_f64(self.turn);
        let next = self.busy_at.map(|last| last + interval);
        next.map_or(first, |next| next.max(first))
    }

    /// Units to have in hand though nobody waits for them.
    fn stock(&self, now: Instant) -> u32 {
        let since = |at: Option<Instant>, longest| {
            at.is_some_and(|at| now.saturating_duration_since(at) < longest)
        };
        let part = self.limit / STOCKED / self.gateways;
        let usual = if since(self.busy_at, BUSY) {
            part.min(MOST_STOCKED)
        } else {
            0
        };
        usual.max(u32::from(since(self.refresh_at, REFRESHING)))
    }
}

/// What is ours of a budget that several gateways share.
impl Budget {
    /// Shares the budget with others from now on; so many until the purse has told. `turn` is where
    /// among them this one stands, from 0 to 1.
    pub fn share(&mut self, gateways: u32, turn: f64, now: Instant) {
        self.lease = Some(Lease::new(gateways, turn, self.limit, now));
    }

    /// How units are had; `None` where the budget is nobody else's.
    pub fn mode(&self) -> Option<Mode> {
        Some(self.lease.as_ref()?.mode)
    }

    /// Units in hand, and how many gateways share the budget.
    pub fn leased(&self) -> Option<(u32, u32)> {
        let lease = self.lease.as_ref()?;
        Some((lease.in_hand, lease.gateways))
    }

    /// What to tell the purse, where so many wait by class. It is told once: what comes of it is to be
    /// [taken](Self::take_grant), or said to have [failed](Self::lose_purse).
    pub fn report(&mut self, waiting: [u32; 3], now: Instant) -> Option<Report> {
        let under_way = self.log.under_way(now);
        let lease = self.lease.as_mut()?;
        let held_for = self
            .held_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let nobody_waits = waiting == [0; 3];
        let stock = lease.stock(now);
        if nobody_waits && now.saturating_duration_since(lease.had_at) >= LAPSE {
            lease.in_hand = lease.in_hand.min(stock);
        }
        let mut covered = lease.in_hand;
        let [interactive, service, batch] = waiting.map(|count| {
            let missing = count.saturating_sub(covered);
            covered = covered.saturating_sub(count);
            missing
        });
        let used = lease.used.take();
        let report = Report {
            spent: self.log.settled_since(lease.told, now),
            told: lease.told,
            total: self.log.settled_total(),
            has: lease.in_hand + under_way,
            wants: [
                interactive,
                service,
                batch,
                stock.saturating_sub(lease.in_hand),
            ],
            limit: self.limit,
            has_learned: self.limit != lease.limit,
            held_for,
            // What all others spend by themselves is not somebody else's.
            used: used.filter(|_| lease.mode == Mode::Leased),
        };
        lease.told = report.total;
        Some(report)
    }

    /// A refresh found no unit: the next one should. Says whether units are leased at all.
    pub fn want_refresh(&mut self, now: Instant) -> bool {
        let Some(lease) = &mut self.lease else {
            return false;
        };
        lease.refresh_at = Some(now);
        lease.mode == Mode::Leased
    }

    /// Whether units are leased, and some should be in hand though nobody waits for them.
    pub fn lacks_stock(&self, now: Instant) -> bool {
        let lease = self.lease.as_ref();
        let lease = lease.filter(|lease| lease.mode == Mode::Leased);
        lease.is_some_and(|lease| lease.stock(now) > lease.in_hand)
    }

    /// Takes what the purse has said to a report.
    pub fn take_grant(&mut self, grant: Grant, now: Instant) {
        let counting = self.log.counting(now);
        let Some(lease) = &mut self.lease else {
            return;
        };
        // Not all others have come back yet to a purse that is new, or that we have come back to.
        let since = lease.leased_since.filter(|_| !grant.is_new);
        let is_settled = since.is_some_and(|since| now.saturating_duration_since(since) >= SETTLED);
        let known = if is_settled { 1 } else { lease.gateways };
        lease.gateways = grant.gateways.max(known);
        lease.limit = grant.limit.max(1);
        if grant.is_unknown {
            lease.told = 0;
        }
        if grant.is_new {
            lease.go_alone(counting, now);
        } else {
            lease.mode = Mode::Leased;
            lease.leased_since.get_or_insert(now);
            lease.in_hand = (lease.in_hand + grant.units).min(MOST_LEASED);
        }
        lease.last = Some((grant, now));
        if grant.units > 0 {
            lease.had_at = now;
        }
        if self.limit != lease.limit {
            self.limit = lease.limit;
            self.pace.fit(self.limit);
        }
        if !grant.held_for.is_zero() {
            self.held_until = self.held_until.max(Some(now + grant.held_for));
        }
    }

    /// A report may not have reached the purse: it is told again. If the purse is `gone`, what it has
    /// leased is no longer ours to spend.
    pub fn lose_purse(&mut self, report: &Report, gone: bool, now: Instant) {
        let counting = self.log.counting(now);
        let Some(lease) = &mut self.lease else {
            return;
        };
        lease.told = lease.told.min(report.told);
        lease.used = lease.used.or(report.used);
        if gone {
            lease.go_alone(counting, now);
        }
    }

    /// When a request may start of a budget that is shared.
    pub(super) fn shared_opening(&self, lease: &Lease, ahead: u32, now: Instant) -> Instant {
        if let Some(opening) = lease.opening(ahead, self.limit, self.window, now) {
            return opening;
        }
        let share = self.share_alone(lease);
        let logged = self.log.opening(ahead, share, self.delay, now);
        let logged = logged.max(lease.rarely(self.limit, self.window, now));
        let first_ends = lease.alone_since + self.window;
        let logged = if lease.most_at_first < share && now < first_ends {
            let most = lease.most_at_first;
            let before = self.log.opening(ahead, most, self.delay, now);
            before.min(logged.max(first_ends))
        } else {
            logged
        };
        let paced = self.pace.opening(ahead, self.window / share, now);
        let opening = paced.max(logged);
        if self.careful_since.is_some() && self.log.under_way(now) > 0 {
            return opening.max(now + self.delay.max(GLANCE));
        }
        opening
    }

    /// Units a window that are ours while the purse does not answer.
    pub(super) fn share_alone(&self, lease: &Lease) -> u32 {
        let part = f64::from(self.limit) / f64::from(lease.gateways) * ALONE;
        super::whole(part.floor()).max(1)
    }

    /// Units that nobody has, as far as is known.
    pub(super) fn shared_free(&self, lease: &Lease, now: Instant) -> u32 {
        if let (Mode::Leased, Some((grant, _))) = (lease.mode, lease.last) {
            return grant.free.saturating_add(lease.in_hand);
        }
        let mut share = self.share_alone(lease);
        if now < lease.alone_since + self.window {
            share = share.min(lease.most_at_first);
        }
        share.saturating_sub(self.log.counting(now))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn budget(gateways: u32, now: Instant) -> Budget {
        let settings = Settings {
            requests: 120,
            window: 60 * SECOND,
            timeout: 5 * SECOND,
        };
        let mut budget = Budget::new(settings, now);
        budget.share(gateways, 0.0, now);
        budget
    }

    fn grant(units: u32) -> Grant {
        Grant {
            units,
            limit: 120,
            held_for: Duration::ZERO,
            gateways: 3,
            next_in: SECOND / 2,
            share: 0.5,
            free: 50,
            is_new: false,
            ready: 0,
            is_unknown: false,
        }
    }

    /// Units told in a report.
    fn units(report: &Report) -> usize {
        report.spent.iter().map(|&(_, units)| units as usize).sum()
    }

    /// Spends whatever may be spent in `time`, and says how much that was.
    fn spend_all(budget: &mut Budget, now: &mut Instant, time: Duration) -> usize {
        let (end, mut spent) = (*now + time, 0);
        while *now < end {
            while let Some(unit) = budget.spend(1, *now) {
                budget.settle(unit, None, *now, std::time::SystemTime::UNIX_EPOCH);
                spent += 1;
            }
            *now += Duration::from_millis(50);
        }
        spent
    }

    #[test]
    fn nothing_is_spent_but_what_was_leased_while_the_purse_answers() {
        let mut now = Instant::now();
        let mut budget = budget(1, now);
        budget.take_grant(grant(3), now);
        assert_eq!(spend_all(&mut budget, &mut now, 30 * SECOND), 3);
        let report = budget.report([2, 0, 1], now).expect("it is shared");
        assert_eq!((report.spent, report.has), (vec![(30, 3)], 0));
        assert_eq!(report.wants[..3], [2, 0, 1]);
        let report = budget.report([0; 3], now).expect("it is shared");
        assert_eq!(report.spent, [], "told once");
    }

    #[test]
    fn what_the_purse_did_not_hear_is_told_again() {
        let mut now = Instant::now();
        let mut budget = budget(1, now);
        budget.take_grant(grant(3), now);
        spend_all(&mut budget, &mut now, SECOND);
        let report = budget.report([0; 3], now).expect("it is shared");
        budget.lose_purse(&report, false, now);
        assert_eq!(
            budget.report([0; 3], now).map(|report| report.spent),
            Some(vec![(1, 3)])
        );
    }

    #[test]
    fn without_the_purse_each_has_an_equal_share_less_a_fifth() {
        let mut now = Instant::now();
        let mut budget = budget(3, now);
        // Of 120 for three, 40 each, less a fifth.
        assert!(spend_all(&mut budget, &mut now, 60 * SECOND) <= 32);
        let later = spend_all(&mut budget, &mut now, 600 * SECOND);
        assert!((290..=320).contains(&later), "{later} in ten minutes");
    }

    #[test]
    fn leased_units_are_no_longer_ours_when_the_purse_is_gone() {
        let mut now = Instant::now();
        let mut budget = budget(1, now);
        budget.take_grant(grant(10), now);
        let report = budget.report([0; 3], now).expect("it is shared");
        budget.lose_purse(&report, true, now);
        assert_eq!(budget.mode(), Some(Mode::Alone));
        assert_eq!(budget.leased(), Some((0, 3)));
        assert!(spend_all(&mut budget, &mut now, 60 * SECOND) <= 32);
    }

    #[test]
    fn a_new_purse_leases_nothing_and_hears_what_was_spent() {
        let mut now = Instant::now();
        let mut budget = budget(2, now);
        let spent = spend_all(&mut budget, &mut now, SECOND);
        let new = Grant {
            is_new: true,
            ..grant(0)
        };
        budget.take_grant(new, now);
        assert_eq!(budget.mode(), Some(Mode::Alone));
        let told = budget.report([0; 3], now).expect("it is shared");
        assert!(spent > 0 && units(&told) == spent);
    }

    #[test]
    fn a_purse_that_does_not_know_a_gateway_is_told_all_once_more_and_when_it_was() {
        let mut now = Instant::now();
        let mut budget = budget(1, now);
        budget.take_grant(grant(2), now);
        assert_eq!(spend_all(&mut budget, &mut now, 10 * SECOND), 2);
        assert_eq!(budget.report([0; 3], now).as_ref().map(units), Some(2));
        let unknown = Grant {
            is_unknown: true,
            ..grant(0)
        };
        budget.take_grant(grant(1), now);
        assert_eq!(spend_all(&mut budget, &mut now, 5 * SECOND), 1);
        budget.take_grant(unknown, now);
        let report = budget.report([0; 3], now).expect("it is shared");
        assert_eq!(report.spent, [(15, 2), (5, 1)]);
        now += 50 * SECOND;
        budget.take_grant(unknown, now);
        let report = budget.report([0; 3], now).expect("it is shared");
        assert_eq!(report.spent, [(55, 1)], "the others count no more");
    }

    #[test]
    fn gateways_that_have_not_come_back_yet_are_counted() {
        let now = Instant::now();
        let mut budget = budget(3, now);
        let first = Grant {
            gateways: 1,
            ..grant(0)
        };
        budget.take_grant(first, now);
        let report = budget.report([0; 3], now).expect("it is shared");
        budget.lose_purse(&report, true, now);
        assert_eq!(budget.leased(), Some((0, 3)));
        budget.take_grant(first, now);
        budget.take_grant(first, now + SETTLED);
        assert_eq!(budget.leased(), Some((0, 1)), "they are gone");
    }

    #[test]
    fn what_is_given_back_is_what_was_taken() {
        let now = Instant::now();
        let mut budget = budget(1, now);
        budget.take_grant(grant(1), now);
        let retry = budget.spend(2, now).expect("one is enough to send");
        budget.give_back(retry, now);
        assert_eq!(budget.leased(), Some((1, 3)));
    }

    #[test]
    fn who_had_nothing_spends_one_lease_in_the_first_window_without_the_purse() {
        let mut now = Instant::now();
        let mut budget = budget(3, now);
        let used_up = Grant {
            free: 0,
            ..grant(0)
        };
        budget.take_grant(used_up, now);
        let report = budget.report([0; 3], now).expect("it is shared");
        budget.lose_purse(&report, true, now);
        let began = now;
        let spent = spend_all(&mut budget, &mut now, 60 * SECOND);
        assert_eq!(spent, 10, "others may have spent all the budget");
        let spent = spend_all(&mut budget, &mut now, 60 * SECOND);
        assert!((22..=32).contains(&spent), "{spent} of its share of 32");
        assert!(began + 120 * SECOND <= now);
    }

    #[test]
    fn who_spent_much_while_units_were_leased_owes_nothing_when_they_are_not() {
        let mut now = Instant::now();
        let mut budget = budget(3, now);
        for _ in 0..600 {
            budget.take_grant(grant(1), now);
            spend_all(&mut budget, &mut now, SECOND);
        }
        let report = budget.report([0; 3], now).expect("it is shared");
        budget.lose_purse(&report, true, now);
        spend_all(&mut budget, &mut now, 60 * SECOND);
        let spent = spend_all(&mut budget, &mut now, 60 * SECOND);
        assert!((22..=32).contains(&spent), "{spent} of its share of 32");
    }

    #[test]
    fn where_a_share_is_less_than_one_there_is_one_in_as_many_windows() {
        let mut now = Instant::now();
        let mut budget = budget(960, now);
        // A tenth of a unit a minute.
        assert_eq!(spend_all(&mut budget, &mut now, 660 * SECOND), 2);
        budget.share(960, 0.5, now);
        assert_eq!(spend_all(&mut budget, &mut now, 299 * SECOND), 0);
        assert_eq!(spend_all(&mut budget, &mut now, 2 * SECOND), 1);
    }

    #[test]
    fn units_nobody_wants_go_back_and_one_is_kept_where_there_is_demand() {
        let now = Instant::now();
        let mut budget = budget(1, now);
        budget.take_grant(grant(5), now);
        let unit = budget.spend(1, now).expect("leased");
        budget.settle(unit, None, now, std::time::SystemTime::UNIX_EPOCH);
        let report = budget.report([0; 3], now + LAPSE / 2);
        let report = report.expect("it is shared");
        assert_eq!((report.has, report.wants), (4, [0; 4]));
        let report = budget.report([0; 3], now + LAPSE).expect("it is shared");
        assert_eq!((report.has, report.wants), (3, [0; 4]), "120 for three");
        assert_eq!(report.again_in(), REPORT_EVERY);
        let report = budget.report([0; 3], now + 2 * BUSY).expect("it is shared");
        assert_eq!((report.has, report.wants), (0, [0; 4]));
        assert_eq!(report.again_in(), REPORT_IDLE);
    }

    #[test]
    fn a_hundred_gateways_keep_nothing_in_stock_but_for_a_refresh() {
        let now = Instant::now();
        let mut budget = budget(1, now);
        let many = Grant {
            gateways: 100,
            ..grant(1)
        };
        budget.take_grant(many, now);
        let unit = budget.spend(1, now).expect("leased");
        budget.settle(unit, None, now, std::time::SystemTime::UNIX_EPOCH);
        let wants = |budget: &mut Budget| budget.report([0; 3], now).map(|report| report.wants[3]);
        assert_eq!(wants(&mut budget), Some(0));
        assert!(budget.want_refresh(now));
        assert_eq!(wants(&mut budget), Some(1));
    }

    #[test]
    fn a_hold_and_a_limit_are_everybodys() {
        let now = Instant::now();
        let mut budget = budget(1, now);
        let held = Grant {
            held_for: 7 * SECOND,
            limit: 60,
            ..grant(5)
        };
        budget.take_grant(held, now);
        assert_eq!(budget.opening(0, now), now + 7 * SECOND);
        assert_eq!(budget.snapshot(now).limit, 60);
        let report = budget.report([0; 3], now).expect("it is shared");
        assert_eq!((report.held_for, report.limit), (7 * SECOND, 60));
        assert!(!report.has_learned, "what the purse said is no news to it");
    }
}
