//! The purse in virtual time: the script that Redis runs, in the same Lua, before a stand-in for what
//! it keeps.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use flameup_gateway::shield::budget::lease::{Grant, Report};
use mlua::{Function, IntoLuaMulti, Lua, MultiValue, Value, Variadic};

use crate::{Outage, Shares, WINDOW};

/// What Redis' clock says at the start.
const TIME_AT_START: Duration = Duration::from_millis(1_800_000_000_912);

/// How long calls are run and yet bring no answer.
const LOST_FOR: Duration = Duration::from_millis(1500);

const SCRIPT: &str = include_str!("../../src/tier/scripts/lease.lua");

type Hashes = BTreeMap<String, BTreeMap<String, String>>;

#[derive(Debug)]
pub(crate) struct Purse {
    start: Instant,
    outage: Option<Outage>,
    was_emptied: Cell<bool>,
    script: Function,
    lua: Lua,
    hashes: Rc<RefCell<Hashes>>,
    time: Rc<Cell<Duration>>,
}

impl Purse {
    pub(crate) fn new(shares: Shares, start: Instant) -> Self {
        let lua = Lua::new();
        let hashes = Rc::new(RefCell::new(Hashes::new()));
        let time = Rc::new(Cell::new(Duration::ZERO));
        let (kept, clock) = (Rc::clone(&hashes), Rc::clone(&time));
        let call = lua.create_function(move |lua, words: Variadic<Value>| {
            call(lua, &mut kept.borrow_mut(), clock.get(), &words)
        });
        let redis = lua.create_table().expect("memory");
        redis.set("call", call.expect("memory")).expect("memory");
        lua.globals().set("redis", redis).expect("memory");
        Self {
            start,
            outage: shares.outage,
            was_emptied: Cell::new(false),
            script: lua.load(SCRIPT).into_function().expect("it is Lua"),
            lua,
            hashes,
            time,
        }
    }

    /// What it answers to a gateway at `now`; `None` while it is out of reach, and while its answers are
    /// lost, before and after that.
    pub(crate) fn lease(&self, gateway: usize, report: &Report, now: Instant) -> Option<Grant> {
        let since = now - self.start;
        if let Some(outage) = self.outage {
            if since >= outage.from && since < outage.until {
                return None;
            }
            if since >= outage.until && outage.empties && !self.was_emptied.replace(true) {
                self.hashes.borrow_mut().clear();
            }
        }
        let is_lost = |outage: Outage| {
            let before = outage.from.saturating_sub(LOST_FOR)..outage.from;
            let after = outage.until..outage.until + LOST_FOR;
            before.contains(&since) || after.contains(&since)
        };
        self.time.set(TIME_AT_START + since);
        let mut words = vec![format!("{gateway:032x}")];
        words.extend(report.numbers(WINDOW).iter().map(i64::to_string));
        let globals = self.lua.globals();
        globals.set("KEYS", vec!["m", "s", "g"]).expect("memory");
        globals.set("ARGV", words).expect("memory");
        let numbers: Vec<u32> = self.script.call(()).expect("the script has no error");
        let numbers: [u32; 10] = numbers.try_into().expect("ten numbers");
        (!self.outage.is_some_and(is_lost)).then(|| numbers.into())
    }
}

/// The commands that the script uses, as Redis has them for Lua.
fn call(
    lua: &Lua,
    hashes: &mut Hashes,
    time: Duration,
    words: &[Value],
) -> mlua::Result<MultiValue> {
    let words: Vec<String> = words.iter().map(text).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["TIME"] => {
            vec![time.as_secs().to_string(), time.subsec_micros().to_string()].into_lua_multi(lua)
        }
        ["HGETALL", key] => {
            let pairs = hashes.get(key).into_iter().flatten();
            let flat = pairs.flat_map(|(field, value)| [field.as_str(), value.as_str()]);
            flat.collect::<Vec<_>>().into_lua_multi(lua)
        }
        ["EXISTS", key] => {
            let exists = hashes.get(key).is_some_and(|hash| !hash.is_empty());
            i32::from(exists).into_lua_multi(lua)
        }
        ["HGET", key, field] => match hashes.get(key).and_then(|hash| hash.get(field)) {
            Some(value) => value.as_str().into_lua_multi(lua),
            None => false.into_lua_multi(lua),
        },
        ["HSET", key, field, value] => {
            let hash = hashes.entry(key.to_owned()).or_default();
            hash.insert(field.to_owned(), value.to_owned());
            1.into_lua_multi(lua)
        }
        ["HDEL", key, field] => {
            hashes.entry(key.to_owned()).or_default().remove(field);
            1.into_lua_multi(lua)
        }
        ["HINCRBY", key, field, by] => {
            let hash = hashes.entry(key.to_owned()).or_default();
            let value = hash.entry(field.to_owned()).or_default();
            let number = |text: &str| text.parse::<i64>().unwrap_or(0);
            *value = (number(value) + number(by)).to_string();
            value.as_str().into_lua_multi(lua)
        }
        // Longer than anything is of use.
        ["PEXPIRE", _, _] => 1.into_lua_multi(lua),
        _ => panic!("not known here: {words:?}"),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.to_string_lossy(),
        other => panic!("not a word: {other:?}"),
    }
}
