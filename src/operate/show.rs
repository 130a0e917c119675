//! An answer for people to read: a name and a value a line, what belongs together indented.

use std::io::{self, Write};

use serde_json::{Map, Value};

/// Members that are somebody else's JSON and shown as such.
const FOREIGN: [&str; 2] = ["person", "error_body"];

/// Writes an answer.
pub(super) fn write(answer: &Value, out: &mut impl Write) -> io::Result<()> {
    match answer {
        Value::Object(members) => write_members(members, 0, out),
        other => writeln!(out, "{other}"),
    }
}

fn write_members(
    members: &Map<String, Value>,
    indent: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    let plain = members.iter().filter(|(_, value)| is_plain(value));
    let width = plain.map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in members {
        match value {
            Value::Object(_) if indent == 0 && is_foreign(name, members) => {
                writeln!(out, "{name}")?;
                let text = serde_json::to_string_pretty(value)?;
                for line in text.lines() {
                    writeln!(out, "  {line}")?;
                }
            }
            Value::Object(inner) => {
                writeln!(out, "{:indent$}{name}", "")?;
                write_members(inner, indent + 2, out)?;
            }
            Value::Array(list) if list.iter().any(Value::is_object) => {
                writeln!(out, "{:indent$}{name}", "")?;
                for inner in list.iter().filter_map(Value::as_object) {
                    write_row(inner, indent + 2, out)?;
                }
            }
            plain => writeln!(out, "{:indent$}{name:width$}  {}", "", text(plain))?,
        }
    }
    Ok(())
}

/// One of several: in a line, if its members are plain.
fn write_row(members: &Map<String, Value>, indent: usize, out: &mut impl Write) -> io::Result<()> {
    if !members.values().all(is_plain) {
        write_members(members, indent, out)?;
        return writeln!(out);
    }
    let words: Vec<_> = members
        .iter()
        .map(|(name, value)| format!("{name} {}", text(value)))
        .collect();
    writeln!(out, "{:indent$}{}", "", words.join("  "))
}

/// Whether a member is what Flameup sent; the gateway's own `person` is a kind and a hash.
fn is_foreign(name: &str, members: &Map<String, Value>) -> bool {
    FOREIGN.contains(&name) && members.contains_key("status")
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::Object(_) => false,
        Value::Array(list) => !list.iter().any(Value::is_object),
        _ => true,
    }
}

/// A plain value. Nothing of it can move the cursor of a terminal.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::String(text) if text.chars().any(char::is_control) => {
            text.escape_debug().to_string()
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_reads_as_lines_and_cannot_play_with_the_terminal() {
        let answer = json!({
            "id": "a\u{1b}[2J", "status": 200, "person": {"id": "x", "n": [1]}, "age": null,
            "names": [{"kind": "uuid", "hash": "ab"}], "standing": {"waiting": 0, "sent": true},
        });
        let mut out = Vec::new();
        write(&answer, &mut out).expect("room");
        let text = String::from_utf8(out).expect("text");
        assert!(!text.contains('\u{1b}'));
        for line in [
            "status  200",
            "  \"id\": \"x\",",
            "  kind uuid  hash ab",
            "age     -",
        ] {
            let is_there = text.lines().any(|one| one.contains(line));
            assert!(is_there, "{line:?} in\n{text}");
        }
        assert!(
            text.contains("standing\n  waiting  0\n  sent     yes\n"),
            "{text}"
        );
    }
}
