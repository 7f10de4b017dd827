//! `tidegate ask` as a process of its own, against a Tidegate that serves.

use std::net::TcpListener;
use std::process::Command;

use tidegate::demo::ports::HeldPort;

use crate::support::PATIENCE;
use crate::support::process::{Ended, Process};
use crate::support::tidegate::{Launch, Tidegate};

const RULES: &str = "\
domain: shop
descriptors:
  - key: user
    rate_limit: { unit: hour, requests_per_unit: 3, name: per-user }
    descriptors:
      - { key: path, value: /cart, rate_limit: { unit: hour, requests_per_unit: 2, name: cart } }
  - { key: free, rate_limit: { unlimited: true } }
";

async fn ask_at(address: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env_clear().args(["ask", "--address", address]).args(arguments);
    Process::spawn("tidegate ask", &mut command).wait(PATIENCE).await
}

async fn ask(tidegate: &Tidegate, arguments: &[&str]) -> Ended {
    ask_at(&tidegate.grpc_address().to_string(), &[&["--timeout", "20s", "--domain", "shop"], arguments].concat()).await
}

async fn served() -> Tidegate {
    Launch::new(&[("rules.yaml", RULES)]).setting("TIDEGATE_RESPONSE_HEADERS_ENABLED", true).start().await
}

fn code(ended: &Ended) -> i32 {
    ended.status.code().unwrap_or_else(|| panic!("it should exit: {ended:?}"))
}

#[tokio::test]
async fn each_descriptor_has_its_line_and_the_exit_code_is_the_verdict() {
    let tidegate = served().await;
    let question =
        ["user=ada", "path=/cart", "--descriptor", "user=bob", "--descriptor", "free=1", "--descriptor", "x="];
    let ended = ask(&tidegate, &[&question[..], &["--hits", "2"]].concat()).await;
    assert_eq!(code(&ended), 0, "{ended:?}");
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines[0], "OK");
    assert!(lines[1].starts_with("user=ada, path=/cart: OK, limit 2 per hour (\"cart\"), 0 remaining, resets in "));
    assert!(lines[2].starts_with("user=bob: OK, limit 3 per hour (\"per-user\"), 1 remaining, resets in "));
    assert_eq!(lines[3..5], ["free=1: OK, unlimited", "x=: OK, no limit applies"]);
    assert!(lines[5..].iter().all(|line| line.starts_with("header ")) && lines.len() > 5, "{lines:?}");

    let ended = ask(&tidegate, &question).await;
    assert_eq!(code(&ended), 1, "{ended:?}");
    assert!(ended.stdout.starts_with("OVER_LIMIT\nuser=ada, path=/cart: OVER_LIMIT, limit 2 per hour"), "{ended:?}");
}

#[tokio::test]
async fn a_look_is_charged_to_nobody() {
    let tidegate = served().await;
    for _ in 0..5 {
        let ended = ask(&tidegate, &["user=ada", "--look"]).await;
        assert!(ended.stdout.contains("limit 3 per hour (\"per-user\"), 3 remaining"), "{ended:?}");
    }
    assert!(ask(&tidegate, &["user=ada"]).await.stdout.contains(", 2 remaining"));
    assert!(ask(&tidegate, &["user=ada", "--look"]).await.stdout.contains(", 2 remaining"));
}

#[tokio::test]
async fn the_answer_in_json_is_the_one_of_the_http_port() {
    let tidegate = served().await;
    let ended = ask(&tidegate, &["user=ada", "--hits", "4", "--json"]).await;
    let told: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(code(&ended), 1, "{ended:?}");
    assert_eq!(told["overallCode"], "OVER_LIMIT");
    assert_eq!(told["statuses"][0]["currentLimit"]["name"], "per-user");
}

#[tokio::test]
async fn hits_that_never_fit_are_told() {
    let tidegate = served().await;
    let ended = ask(&tidegate, &["user=ada", "--hits", "4"]).await;
    assert!(ended.stdout.lines().nth(1).unwrap().ends_with("; so many hits never pass"), "{ended:?}");
}

#[tokio::test]
async fn whoever_does_not_answer_is_told_in_one_sentence() {
    let tidegate = served().await;
    let nobody = HeldPort::any().unwrap();
    let free = nobody.address().to_string();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().map(|address| (silent, address.to_string())).unwrap();
    let http = tidegate.http_address().to_string();
    for (address, told) in [
        (&free, format!("nobody answers at {free}: ")),
        (&silent.1, format!("{} did not answer within 200ms", silent.1)),
        (&http, format!("{http} does not answer as a rate limit service (")),
    ] {
        // The silent one is waited for in vain, whatever the patience; the others answer at once.
        let patience = if *address == silent.1 { "200ms" } else { "20s" };
        let ended = ask_at(address, &["--domain", "shop", "user=ada", "--timeout", patience]).await;
        assert_eq!((code(&ended), ended.stderr.lines().count()), (69, 1), "{ended:?}");
        assert!(ended.stderr.starts_with(&format!("tidegate: {told}")), "{ended:?}");
        assert_eq!(ended.stdout, "", "{ended:?}");
    }
}

#[tokio::test]
async fn an_error_of_the_server_is_told_with_its_code() {
    let tidegate = served().await;
    let many = vec!["user=ada"; 40];
    let ended = ask(&tidegate, &many).await;
    assert_eq!(code(&ended), 69, "{ended:?}");
    assert!(ended.stderr.contains(" answered INVALID_ARGUMENT: "), "{ended:?}");
}

#[tokio::test]
async fn every_mistake_in_a_question_is_told_at_once() {
    let ended = ask_at("localhost", &["--domain", "", "user", "--timeout", "5"]).await;
    assert_eq!(code(&ended), 64, "{ended:?}");
    for told in ["--address \"localhost\"", "--timeout \"5\"", "\"user\" must be key=value", "--domain \"\""] {
        assert!(ended.stderr.contains(told), "{told}: {ended:?}");
    }
}
