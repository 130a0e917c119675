//! Everything that is not about people: events, devices, campaigns, messages.
//!
//! A proxy only passes these on, so they are answered plausibly and remember nothing.
//!
//! # Specification
//! Flameup docs (post-track, get-workspaces-workspaceid-events, devices, campaigns, transactional,
//! post-workspaces-workspaceid-transactional-send). Whether an event moves `last_seen_at` is unsaid;
//! here it does not.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::api::{Call, text};
use super::errors;
use super::route::{Route, Who};

/// Answers a route that is not about people.
pub(super) fn answer(call: &Call<'_>, route: &Route) -> Result<Answer, Answer> {
    match route {
        Route::Track => track(call),
        Route::Events => Ok(ok(&json!({"events": [], "total": 0}))),
        Route::RegisterDevice(who) => register(call, who),
        Route::Devices => Ok(ok(&json!({"devices": []}))),
        Route::CreateCampaign => campaign(call),
        Route::TriggerCampaign(id) => Ok(ok(&json!({"success": true, "campaign_id": id}))),
        Route::Push => send(call, "person_id"),
        Route::Transactional => send(call, "user_id"),
        _ => Err(errors::not_found(call.not_found, call.arrival)),
    }
}

fn track(call: &Call<'_>) -> Result<Answer, Answer> {
    let event = call.object()?;
    let who = text(&event, "external_id").or_else(|| text(&event, "userId"));
    require(&[("external_id", who), ("event", text(&event, "event"))])?;
    let id = format!("evt_{:08x}", call.arrival);
    Ok(ok(&json!({"success": true, "event_id": id})))
}

fn register(call: &Call<'_>, who: &Who) -> Result<Answer, Answer> {
    let device = call.object()?;
    require(&[
        ("token", text(&device, "token")),
        ("platform", text(&device, "platform")),
    ])?;
    // The docs call this id `person_id`, elsewhere the word for the UUID: both are taken.
    let (Who::Name(id) | Who::Uuid(id)) = who;
    let (_, person) = call
        .find(who)
        .or_else(|_| call.find(&Who::Uuid(id.clone())))?;
    let mut answer = Map::new();
    answer.insert("id".to_owned(), json!(format!("dev_{:08x}", call.arrival)));
    answer.insert("workspace_id".to_owned(), json!(call.people.workspace()));
    answer.insert("person_id".to_owned(), json!(person.text("id")));
    answer.insert("device_token".to_owned(), json!(text(&device, "token")));
    for name in [
        "platform",
        "device_name",
        "device_model",
        "os_version",
        "app_version",
    ] {
        answer.insert(
            name.to_owned(),
            device.get(name).cloned().unwrap_or(Value::Null),
        );
    }
    for name in ["is_active", "is_valid"] {
        answer.insert(name.to_owned(), json!(true));
    }
    for name in ["last_used_at", "created_at", "updated_at"] {
        answer.insert(name.to_owned(), json!(call.people.now()));
    }
    Ok(Answer::value(StatusCode::CREATED, &answer))
}

fn campaign(call: &Call<'_>) -> Result<Answer, Answer> {
    let mut campaign = call.object()?;
    require(&[("name", text(&campaign, "name"))])?;
    campaign.insert("id".to_owned(), json!(format!("camp_{:08x}", call.arrival)));
    campaign.insert("workspace_id".to_owned(), json!(call.people.workspace()));
    for name in ["created_at", "updated_at"] {
        campaign.insert(name.to_owned(), json!(call.people.now()));
    }
    Ok(Answer::value(StatusCode::CREATED, &campaign))
}

fn send(call: &Call<'_>, recipient: &str) -> Result<Answer, Answer> {
    let message = call.object()?;
    require(&[(recipient, text(&message, recipient))])?;
    let id = format!("msg_{:08x}", call.arrival);
    let answer = json!({
        "success": true, "message_id": id, "delivered_to": ["ios"], "devices_count": 1,
    });
    Ok(ok(&answer))
}

fn ok(value: &Value) -> Answer {
    Answer::value(StatusCode::OK, value)
}

/// 422 naming each field without text.
fn require(fields: &[(&str, Option<&str>)]) -> Result<(), Answer> {
    let missing = fields
        .iter()
        .filter(|(_, value)| value.is_none_or(str::is_empty));
    let missing: Vec<_> = missing
        .map(|(name, _)| ((*name).to_owned(), "is required".to_owned()))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(errors::invalid(&missing))
    }
}
