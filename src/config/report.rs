//! The effective settings, for the `check` command: every value and where it came from.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use figment::value::{Dict, Value};
use serde_json::json;

use super::layers::Layers;
use super::origin::Origin;
use super::units;

/// Column at which origins start, if the setting is no longer.
const ORIGIN_COLUMN: usize = 56;

/// One line of the report.
#[derive(Clone, Debug)]
struct Setting {
    key: String,
    /// As in TOML, secrets redacted.
    value: String,
    origin: String,
    /// A hash of the whole value, where what is shown of it does not tell it apart.
    fingerprint: u64,
}

/// Every effective setting, by key.
#[derive(Clone, Debug)]
pub(super) struct Report(Vec<Setting>);

impl Report {
    pub(super) fn new(layers: &Layers) -> Self {
        let mut settings = Vec::new();
        collect(layers, "", &layers.tree(), &mut settings);
        Self(settings)
    }

    pub(super) fn changed_since(&self, earlier: &Self) -> Vec<String> {
        let by_key = |report: &Self| -> BTreeMap<String, u64> {
            let settings = report.0.iter();
            settings
                .map(|setting| (setting.key.clone(), setting.fingerprint))
                .collect()
        };
        let (now, mut before) = (by_key(self), by_key(earlier));
        let mut changed: Vec<String> = now
            .into_iter()
            .filter(|(key, fingerprint)| before.remove(key) != Some(*fingerprint))
            .map(|(key, _)| key)
            .collect();
        changed.extend(before.into_keys());
        changed.sort_unstable();
        changed
    }

    pub(super) fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        for setting in &self.0 {
            let Setting {
                key, value, origin, ..
            } = setting;
            let line = format!("{key} = {value}");
            writeln!(out, "{line:<ORIGIN_COLUMN$}  # {origin}")?;
        }
        Ok(())
    }

    pub(super) fn write_json(&self, out: &mut impl io::Write) -> io::Result<()> {
        let settings = self.0.iter().map(|setting| {
            let Setting {
                key, value, origin, ..
            } = setting;
            json!({ "key": key, "value": value, "origin": origin })
        });
        let settings: Vec<_> = settings.collect();
        writeln!(out, "{}", json!({ "settings": settings }))
    }
}

fn collect(layers: &Layers, prefix: &str, table: &Dict, settings: &mut Vec<Setting>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        if let Some(inner) = value.as_dict() {
            collect(layers, &format!("{key}."), inner, settings);
            continue;
        }
        settings.push(Setting {
            value: written(name, value),
            origin: layers.origin_of(value).to_string(),
            fingerprint: fingerprint(value),
            key,
        });
        for (secret, place) in secrets_behind(name, value) {
            settings.push(Setting {
                key: format!("{prefix}{secret}"),
                value: "<redacted>".to_owned(),
                origin: place.to_string(),
                // Another place is another value of the key that names it.
                fingerprint: 0,
            });
        }
    }
}

/// Tells one value from another, where both are read by the same program.
fn fingerprint(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    whole(value).hash(&mut hasher);
    hasher.finish()
}

/// The value with nothing left out; for hashing alone.
fn whole(value: &Value) -> String {
    match value {
        Value::Array(_, items) => {
            let items: Vec<_> = items.iter().map(whole).collect();
            format!("[{}]", items.join(", "))
        }
        other => written("", other),
    }
}

/// The secrets that a key names the places of.
fn secrets_behind(name: &str, value: &Value) -> Vec<(String, Origin)> {
    let in_file = |place: String| Origin::File(place.into());
    let origin: fn(String) -> Origin = match name {
        "token_file" | "hash_key_file" => {
            let secret = name.trim_end_matches("_file").to_owned();
            let place = value.as_str().map(|place| in_file(place.to_owned()));
            return place.map(|place| (secret, place)).into_iter().collect();
        }
        "api_key_file" => in_file,
        "api_key_env" => Origin::Environment,
        _ => return Vec::new(),
    };
    let places = texts(value);
    let alone = places.len() == 1;
    let numbered = places.into_iter().enumerate().map(|(number, place)| {
        let secret = if alone {
            "api_key".to_owned()
        } else {
            format!("api_key[{number}]")
        };
        (secret, origin(place))
    });
    numbered.collect()
}

/// The members of a list, however it is written.
fn texts(list: &Value) -> Vec<String> {
    match list {
        Value::Array(_, items) => {
            let texts = items.iter().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        }
        text => text
            .as_str()
            .and_then(units::split_list)
            .unwrap_or_default(),
    }
}

fn written(name: &str, value: &Value) -> String {
    match value {
        Value::String(_, text) if name == "token_sha256" => {
            let shown = text.split(',').map(|digest| shortened(digest.trim()));
            quoted(&shown.collect::<Vec<_>>().join(","))
        }
        Value::String(_, text) => quoted(text),
        Value::Char(_, letter) => quoted(&letter.to_string()),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, number) => match (number.to_i128(), number.to_u128(), number.to_f64()) {
            (Some(whole), ..) => whole.to_string(),
            (_, Some(whole), _) => whole.to_string(),
            (.., float) => float.map_or_else(String::new, |float| float.to_string()),
        },
        Value::Array(_, items) => {
            let items: Vec<_> = items.iter().map(|item| written(name, item)).collect();
            format!("[{}]", items.join(", "))
        }
        // Tables are walked, not written; TOML has no empty values.
        Value::Empty(..) | Value::Dict(..) => String::new(),
    }
}

/// Enough of a digest to recognise it; the whole would help whoever guesses at a weak token.
fn shortened(digest: &str) -> String {
    digest.chars().take(8).chain("...".chars()).collect()
}

/// JSON's escapes are TOML's too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
