//! What the access log can say: every command operator, as text and in JSON, for requests that end in every way. Numbers
//! that are times, ports and ids are masked; whether there is one is compared.

use bytes::Bytes;
use http::Request;
use serde_json::{Map, Value, json};
use tidegate::proxy::access_log::Field;

use super::config::{bootstrap, cluster, http, listener, of_type, route, with};
use super::stage::{Places, same};
use crate::support::{PATIENCE, eventually};

/// Those that take an argument.
const WITH_ARGUMENTS: [&str; 17] = [
    "START_TIME",
    "START_TIME(%Y-%m-%d %H:%M:%S.%3f)",
    "START_TIME(%s)",
    "REQ(:METHOD)",
    "REQ(:PATH):6",
    "REQ(:AUTHORITY)",
    "REQ(X-ABSENT?X-OWN)",
    "REQ(X-ABSENT)",
    "RESP(CONTENT-LENGTH)",
    "RESP(X-ABSENT?X-FROM):3",
    "TRAILER(X-ABSENT)",
    "DYNAMIC_METADATA(shop:tier)",
    "METADATA(DYNAMIC:shop)",
    "METADATA(ROUTE:shop:tier)",
    "METADATA(ROUTE:shop)",
    "METADATA(CLUSTER:shop:size)",
    "CLUSTER_METADATA(shop:size)",
];

/// Stands in no value.
const SEPARATOR: &str = " ;; ";

fn operators() -> Vec<String> {
    let fields = Field::ALL.iter().map(|(name, _)| *name);
    fields.chain(WITH_ARGUMENTS).map(str::to_owned).collect()
}

/// What may differ from run to run: digits, or those behind a colon.
fn masked(operator: &str, value: &str) -> String {
    let is_number = ["DURATION", "PORT", "CONNECTION_ID", "START_TIME"].iter().any(|part| operator.contains(part))
        && !operator.ends_with("WITHOUT_PORT");
    let is_address = operator.contains("ADDRESS") || operator == "UPSTREAM_HOST";
    if operator == "STREAM_ID" {
        return format!("{} letters", value.len());
    }
    let mut masked = String::new();
    let mut is_behind_colon = false;
    for letter in value.chars() {
        is_behind_colon = letter == ':' || (is_behind_colon && letter.is_ascii_digit());
        if letter.is_ascii_digit() && (is_number || (is_address && is_behind_colon)) {
            // However many there are.
            if !masked.ends_with('#') {
                masked.push('#');
            }
        } else {
            masked.push(letter);
        }
    }
    masked
}

fn config(places: &Places<'_>) -> Value {
    let file = |name: &str, format: Value| {
        let settings = json!({ "path": places.folder.join(name), "log_format": format });
        json!({ "name": name, "typed_config": of_type("access_loggers.file.v3.FileAccessLog", &settings) })
    };
    let text: Vec<String> = operators().iter().map(|operator| format!("%{operator}%")).collect();
    let object: Map<String, Value> =
        operators().into_iter().map(|operator| (operator.clone(), json!(format!("%{operator}%")))).collect();
    let metadata = |value: &Value| json!({ "metadata": { "filter_metadata": { "shop": value } } });
    let tier = metadata(&json!({ "tier": "gold" }));
    let routes = [
        json!({ "match": { "path": "/direct" }, "direct_response": { "status": 200, "body": { "inline_string": "x" } } }),
        with(route("/dead", "dead"), &tier),
        with(with(route("/named", "up"), &tier), &json!({ "name": "by name" })),
        with(route("/short", "up"), &json!({ "route": { "timeout": "0.2s" } })),
        with(route("/retried", "up"), &json!({ "route": { "retry_policy": { "retry_on": "5xx", "num_retries": 1 } } })),
    ];
    let mut main = listener("main", places.folder, &[], &routes);
    let logs = http(&mut main)["access_log"].as_array_mut().unwrap();
    let inline = format!("{}\n", text.join(SEPARATOR));
    logs.push(file("told.text", json!({ "text_format_source": { "inline_string": inline } })));
    logs.push(file("told.json", json!({ "json_format": object })));
    let up = with(cluster("up", &[places.upstream]), &metadata(&json!({ "size": 7 })));
    bootstrap(&[main], &[up, cluster("dead", &[places.nobody])])
}

#[tokio::test]
async fn every_command_operator_says_the_same() {
    same(config, async |stage| {
        let post = Request::post("/named/post").header("x-own", "mine").body(Bytes::from_static(b"some words"));
        stage.ask("main", post.unwrap()).await;
        for path in [
            "/named/hello",
            "/named/503",
            "/direct",
            "/dead",
            "/nowhere",
            "/short/never",
            "/retried/503",
            "/named/cut",
            "/named/reset",
        ] {
            stage.get(path).await;
        }
        stage.ask_http2("main", "/named/hello").await;
        for line in stage.subject.lines_of("told.text", 11).await {
            for (operator, value) in operators().iter().zip(line.split(SEPARATOR)) {
                stage.note(format!("text {operator}: {}", masked(operator, value)));
            }
        }
        for line in stage.subject.lines_of("told.json", 11).await {
            let line: Value = serde_json::from_str(&line).unwrap();
            for operator in operators() {
                let value = line.get(&operator).map_or("nothing".to_owned(), Value::to_string);
                stage.note(format!("JSON {operator}: {}", masked(&operator, &value)));
            }
        }
    })
    .await;
}

/// A listener whose log has no format, in a file and on standard output.
fn by_default(places: &Places<'_>) -> Value {
    let mut main = listener("main", places.folder, &[], &[route("/dead", "dead"), route("/", "up")]);
    let logs = http(&mut main)["access_log"].as_array_mut().unwrap();
    let file = json!({ "path": places.folder.join("default.text") });
    logs.push(json!({ "name": "file", "typed_config": of_type("access_loggers.file.v3.FileAccessLog", &file) }));
    let stdout = of_type("access_loggers.stream.v3.StdoutAccessLog", &json!({}));
    logs.push(json!({ "name": "stdout", "typed_config": stdout }));
    bootstrap(&[main], &[cluster("up", &[places.upstream]), cluster("dead", &[places.nobody])])
}

/// A line of the default format without what differs from run to run: `[time] "request" numbers "…" "…" "id" "…" "host"`.
fn default_masked(line: &str) -> String {
    let mut parts: Vec<String> = line.split('"').map(str::to_owned).collect();
    assert_eq!(parts.len(), 13, "{line}");
    parts[0] = parts[0].chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    let is_time = |place: usize| place == 5 || place == 6;
    let numbers = parts[2].split(' ').enumerate();
    let numbers = numbers.map(|(place, number)| if is_time(place) && number != "-" { "#" } else { number });
    parts[2] = numbers.collect::<Vec<_>>().join(" ");
    parts[7] = format!("{} letters", parts[7].len());
    parts[11] = masked("UPSTREAM_HOST", &parts[11]);
    parts.join("\"")
}

#[tokio::test]
async fn without_a_format_a_line_is_envoys_in_a_file_and_on_standard_output() {
    same(by_default, async |stage| {
        for path in ["/hello", "/503", "/dead"] {
            let request = Request::get(path).header("user-agent", "a test").header("x-forwarded-for", "1.2.3.4");
            stage.ask("main", request.body(Bytes::new()).unwrap()).await;
        }
        let of_file = stage.subject.lines_of("default.text", 3).await;
        let of_stdout = eventually("three lines are on standard output", PATIENCE, async || {
            let lines: Vec<String> = stage.subject.process.stdout().lines().map(str::to_owned).collect();
            (lines.len() >= 3).then_some(lines)
        })
        .await;
        assert_eq!(of_stdout, of_file);
        for line in of_file {
            stage.note(default_masked(&line));
        }
    })
    .await;
}
