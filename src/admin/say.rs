//! What the admin listener told, in lines for a terminal.

use serde_json::Value;

use crate::rate::Rate;

/// Changes that are printed of a service; `--json` has all of them.
const CHANGES_SHOWN: usize = 20;

/// All services.
pub(super) fn status(told: &Value) -> String {
    let mut lines = vec![head(told)];
    let services = list(&told["services"]);
    if services.is_empty() {
        lines.push("there are no adaptive services".to_owned());
    }
    for service in services {
        lines.push(summary(service));
        lines.extend(last(service).map(|last| format!("  {last}")));
    }
    lines.join("\n")
}

/// One service.
pub(super) fn why(told: &Value) -> String {
    let mut lines = vec![format!("{} ({})", summary(told), text(&told["place"]))];
    lines.extend(trouble(told));
    lines.extend(last(told).map(|last| format!("now: {last}")));
    if told["prospect"].is_string() {
        lines.push(format!("for the limit to rise: {}", text(&told["prospect"])));
    }
    for signal in list(&told["signals"]) {
        let share = |field: &str| format!("{:.1} %", number(&signal[field]) * 100.0);
        lines.push(format!(
            "{}: {} of {:.0} answers in {:.0} s; threshold {}, normal {}{}",
            text(&signal["signal"]),
            share("ratio"),
            number(&signal["answered"]),
            number(&signal["window_s"]),
            share("threshold"),
            share("normal"),
            if signal["is_bad"] == true { "; over for certain" } else { "" },
        ));
    }
    if told["knee"].is_object() {
        let knee = &told["knee"];
        lines.push(format!("it went badly at {}, {} ago", rate(&knee["rate"]), length(number(&knee["age_s"]))));
    }
    lines.extend(list(&told["doubts"]).iter().map(|doubt| format!("note: {}", text(doubt))));
    let changes = list(&told["changes"]);
    lines.push(if changes.is_empty() { "no changes are remembered".to_owned() } else { "changes:".to_owned() });
    let now = number(&told["at_ms"]);
    for change in changes.iter().take(CHANGES_SHOWN) {
        let age = length((now - number(&change["at_ms"])).max(0.0) / 1_000.0);
        lines.push(format!("  {age} ago: {}", text(&change["sentence"])));
    }
    if changes.len() > CHANGES_SHOWN {
        lines.push(format!("  and {} before them (--json has all)", changes.len() - CHANGES_SHOWN));
    }
    let queries = list(&told["queries"]);
    if !queries.is_empty() {
        lines.push("asked of Prometheus:".to_owned());
        lines.extend(queries.iter().map(|query| format!("  {}", text(query))));
    }
    lines.join("\n")
}

/// A text without control characters; nothing of what is no text.
pub(super) fn text(value: &Value) -> String {
    let kept = |letter: char| if letter.is_control() { ' ' } else { letter };
    value.as_str().unwrap_or_default().chars().map(kept).collect()
}

fn head(told: &Value) -> String {
    let leader = if told["leader"].is_string() { text(&told["leader"]) } else { "nobody".to_owned() };
    let mut head = format!("leader: {leader}; replicas: {}; asked: {}", told["replicas"], text(&told["replica"]));
    for line in trouble(told) {
        head.push('\n');
        head.push_str(&line);
    }
    head
}

fn trouble(told: &Value) -> Vec<String> {
    list(&told["trouble"]).iter().map(|trouble| format!("trouble: {}", text(trouble))).collect()
}

/// `inventory: 212/s (enforce, 10/s to 500/s); 900/s offered, 212/s admitted; frozen by ada: the shop moves; for 59m`.
fn summary(service: &Value) -> String {
    let mut parts = vec![format!(
        "{}: {} ({}, {} to {})",
        text(&service["name"]),
        rate(&service["limit"]),
        text(&service["mode"]),
        rate(&service["min"]),
        rate(&service["max"]),
    )];
    if service["offered"].is_number() {
        parts.push(format!("{} offered, {} admitted", rate(&service["offered"]), rate(&service["admitted"])));
    }
    if service["hand"].is_object() {
        parts.push(text(&service["hand"]["sentence"]));
    }
    parts.join("; ")
}

fn last(service: &Value) -> Option<String> {
    let last = service["last"].as_object()?;
    Some(format!("{} ({} ago)", text(&last["sentence"]), length(number(&last["age_s"]))))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn rate(value: &Value) -> String {
    match number(value) {
        0.0 => "0/s".to_owned(),
        per_second => Rate::from_per_second(per_second).to_string(),
    }
}

/// `4 s`, `12 min`, `3 h`.
fn length(seconds: f64) -> String {
    match seconds {
        _ if seconds < 120.0 => format!("{seconds:.0} s"),
        _ if seconds < 7_200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_is_told_in_sentences() {
        let told = json!({
            "replica": "a-1", "leader": null, "replicas": 2, "trouble": ["the store is away"],
            "services": [{
                "name": "inventory", "mode": "enforce", "limit": 212.5, "min": 10, "max": 500,
                "offered": 900.0, "admitted": 0.0,
                "hand": { "sentence": "frozen by ada: x; for 1h" },
                "last": { "sentence": "500 → 212/s\u{1b}[31m", "age_s": 4.2 },
            }],
        });
        assert_eq!(
            status(&told),
            "leader: nobody; replicas: 2; asked: a-1\ntrouble: the store is away\n\
             inventory: 212.5/s (enforce, 10/s to 500/s); 900/s offered, 0/s admitted; frozen by ada: x; for 1h\n  \
             500 → 212/s [31m (4 s ago)"
        );
    }

    #[test]
    fn an_answer_of_another_kind_is_no_panic() {
        for told in [json!(null), json!([]), json!({ "services": [1], "changes": {}, "last": 7 })] {
            assert!(!status(&told).is_empty());
            assert!(!why(&told).is_empty());
        }
    }
}
