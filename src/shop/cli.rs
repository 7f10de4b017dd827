//! The command line of `tidegate-shop`, and the services' lives: listen, say where, serve, end in order.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::inventory::{Inventory, LivePlant};
use super::order::Order;
use super::plant::PlantSettings;
use super::traffic::Traffic;
use super::upstream::{BaseUrl, Upstream};
use super::{control, service, user};
use crate::bench::cli::print;
use crate::demo::load::driver::Load;
use crate::demo::load::outcome::Outcome;
use crate::demo::load::profile::Profile;

/// The services of the demo: a shop whose inventory breaks when it is asked too much, and who asks for too much.
#[derive(Debug, Parser)]
#[command(name = "tidegate-shop", version, about)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// Which service, and how.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve GET /users/{id}, always well
    User(UserArguments),
    /// Serve GET /inventory/{id}, which is fragile
    Inventory(InventoryArguments),
    /// Serve GET /orders/create/{user}/{item}, which asks the other two
    Order(OrderArguments),
    /// Ask for orders, and count what becomes of them
    Load(LoadArguments),
}

/// The flags of the user service.
#[derive(Args, Clone, Debug)]
pub struct UserArguments {
    /// Address to listen on; port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8001")]
    listen: SocketAddr,
}

/// The flags of the inventory service.
#[derive(Args, Clone, Debug)]
pub struct InventoryArguments {
    /// Address to listen on; port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8002")]
    listen: SocketAddr,
    /// Address for GET and PUT /plant; port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8012")]
    control: SocketAddr,
    /// What makes it fail
    #[arg(long, value_enum, default_value_t = Failing::Capacity)]
    fails: Failing,
    /// Seed of what is random in it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests in service at once [default: 4]
    #[arg(long, value_name = "COUNT")]
    workers: Option<u64>,
    /// Time of a service while few wait, in ms [default: 20]
    #[arg(long, value_name = "MS")]
    service_time_ms: Option<u64>,
    /// Requests that may wait; 503 for those who come then [default: 60]
    #[arg(long, value_name = "COUNT")]
    queue_max: Option<u64>,
    /// Waiting requests above which the service slows down [default: 20]
    #[arg(long, value_name = "COUNT")]
    slow_above: Option<u64>,
    /// How many times longer a service takes with a full queue [default: 4]
    #[arg(long, value_name = "FACTOR", value_parser = finite)]
    slowdown_max: Option<f64>,
    /// Share of services that end with 500 [default: 0]
    #[arg(long, value_name = "RATIO", value_parser = finite)]
    error_ratio: Option<f64>,
}

/// What makes the inventory fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Failing {
    /// Too many requests for its workers and its queue
    Capacity,
    /// Every 6th to 15th request of 15, and a tenth of the others at random
    Counted,
}

/// The flags of the order service.
#[derive(Args, Clone, Debug)]
pub struct OrderArguments {
    /// Address to listen on; port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8003")]
    listen: SocketAddr,
    /// Where /users/{id} is asked for, usually at the proxy
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:10000")]
    user_url: BaseUrl,
    /// Where /inventory/{id} is asked for, usually at the proxy
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:10000")]
    inventory_url: BaseUrl,
}

/// The flags of the load.
#[derive(Args, Clone, Debug)]
pub struct LoadArguments {
    /// Where /orders/create/{user}/{item} is asked for, usually at the proxy
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:10000")]
    url: BaseUrl,
    /// Orders a second, whatever becomes of those before
    #[arg(long, value_name = "RATE", default_value = "400", value_parser = parse_rate)]
    rate: f64,
}

/// Time between two lines of the load.
const TURN: Duration = Duration::from_secs(10);

/// Reads the command line; the first argument is the program's own name.
///
/// # Errors
/// What to print and how to exit (`crate::cli::status_of`).
pub fn parse<A>(arguments: impl IntoIterator<Item = A>) -> Result<Command, clap::Error>
where
    A: Into<OsString> + Clone,
{
    let command = CommandLine::try_parse_from(arguments)?.command;
    if let Command::Inventory(arguments) = &command {
        arguments.settings().map_err(|mistakes| CommandLine::command().error(ErrorKind::ValueValidation, mistakes))?;
    }
    Ok(command)
}

// === impl Command ===

impl Command {
    /// Serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When a port can't be had.
    pub async fn run(self) -> anyhow::Result<()> {
        let shutdown = shutdown()?;
        let traffic = Traffic::default();
        match self {
            Command::User(arguments) => {
                let router = service::complete(user::router(&traffic), &traffic, None::<LivePlant>);
                listen("listening", arguments.listen, router, shutdown).await
            }
            Command::Order(OrderArguments { listen: address, user_url, inventory_url }) => {
                let user = Upstream::new("user", user_url);
                let order = Order { user, inventory: Upstream::new("inventory", inventory_url) };
                let router = service::complete(order.router(&traffic), &traffic, None::<LivePlant>);
                listen("listening", address, router, shutdown).await
            }
            Command::Inventory(arguments) => arguments.run(&traffic, shutdown).await,
            Command::Load(arguments) => {
                shutdown.run_until_cancelled(arguments.run()).await;
                Ok(())
            }
        }
    }
}

// === impl InventoryArguments ===

impl InventoryArguments {
    async fn run(self, traffic: &Traffic, shutdown: CancellationToken) -> anyhow::Result<()> {
        let inventory = match self.fails {
            Failing::Counted => Inventory::counted(self.seed),
            Failing::Capacity => {
                let settings = self.settings().map_err(anyhow::Error::msg)?;
                Inventory::Capacity(LivePlant::new(settings, self.seed))
            }
        };
        let plant = inventory.plant().cloned();
        let router = service::complete(inventory.router(traffic), traffic, plant.clone());
        let serving = listen("listening", self.listen, router, shutdown.clone());
        let Some(plant) = plant else { return serving.await };
        let controlling = listen("control", self.control, control::router(plant.clone()), shutdown);
        // The plant works until the last request is answered.
        tokio::select! {
            served = async { tokio::try_join!(serving, controlling) } => served.map(|((), ())| ()),
            () = plant.run() => Ok(()),
        }
    }

    /// The plant's settings, all of whose mistakes are told at once.
    fn settings(&self) -> Result<PlantSettings, String> {
        let whole = [
            ("workers", self.workers),
            ("service_time_ms", self.service_time_ms),
            ("queue_max", self.queue_max),
            ("slow_above", self.slow_above),
        ];
        let real = [("slowdown_max", self.slowdown_max), ("error_ratio", self.error_ratio)];
        let whole = whole.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
        let real = real.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
        let fields: Map<String, Value> = whole.chain(real).collect();
        if self.fails == Failing::Counted && !fields.is_empty() {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            return Err(format!("{} mean something with --fails capacity only", names.join(", ")));
        }
        let settings = PlantSettings::default().changed(&Value::Object(fields));
        settings.map_err(|mistakes| mistakes.to_string())
    }
}

// === impl LoadArguments ===

impl LoadArguments {
    /// Asks for ever, and says every ten seconds what became of the orders.
    async fn run(self) {
        // A turn's last answers come while the next one has begun: the loop stays open.
        let (mut turns, mut clock) = (JoinSet::new(), interval(TURN));
        for seed in 0.. {
            clock.tick().await;
            while turns.try_join_next().is_some() {}
            turns.spawn(turn(self.url.to_string(), self.rate, seed));
        }
    }
}

async fn turn(target: String, rate: f64, seed: u64) {
    let load = Load { target, control: None, profile: Profile::steady(rate, TURN), seed, slice: TURN };
    let timeline = load.timeline();
    load.run(&timeline).await;
    let timeline = timeline.lock().unwrap_or_else(PoisonError::into_inner);
    let counts = Outcome::ALL.map(|outcome| format!("{} {}", timeline.during.count(outcome), outcome.name()));
    print(&counts.join(", "));
}

fn parse_rate(written: &str) -> Result<f64, String> {
    let rate = written.parse().ok().filter(|rate| (0.1..=100_000.0).contains(rate));
    rate.ok_or_else(|| format!("{written:?} should be a number of orders a second from 0.1 to 100000"))
}

/// A number that JSON can hold too.
fn finite(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| format!("{text:?} should be a number"))
}

/// Binds, says where, and serves.
async fn listen(word: &str, address: SocketAddr, router: Router, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    print(&format_args!("{word} on {}", listener.local_addr()?));
    service::serve(listener, router, shutdown).await;
    Ok(())
}

/// Cancelled by the first SIGTERM or SIGINT.
fn shutdown() -> anyhow::Result<CancellationToken> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let cancelled = shutdown.clone();
    // Ends with the process, if no signal comes.
    tokio::spawn(async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(shutdown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> String {
        parse(line.split(' ')).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn the_definition_is_consistent_and_names_the_defaults_of_the_plant() {
        CommandLine::command().debug_assert();
        let mut command = CommandLine::command();
        let help = command.find_subcommand_mut("inventory").unwrap().render_help().to_string();
        for (name, value) in PlantSettings::default().to_json().as_object().unwrap() {
            let flag = format!("--{} ", name.replace('_', "-"));
            let line = help.lines().find(|line| line.contains(&flag)).unwrap_or_else(|| panic!("{flag} in {help}"));
            let value = value.to_string();
            assert!(line.contains(&format!("[default: {}]", value.trim_end_matches(".0"))), "{line}");
        }
    }

    #[test]
    fn all_mistakes_of_a_plant_are_told_at_once() {
        let text = error("tidegate-shop inventory --workers 0 --error-ratio 2 --queue-max 5");
        assert!(text.contains("workers: 0 should be") && text.contains("error_ratio: 2.0 should be"), "{text}");
        let text = error("tidegate-shop inventory --fails counted --workers 3");
        assert!(text.contains("workers mean something with --fails capacity only"), "{text}");
    }

    #[test]
    fn a_wrong_flag_is_told_with_its_value() {
        for (line, value) in [
            ("tidegate-shop user --listen here", "here"),
            ("tidegate-shop order --user-url ftp://a", "ftp://a"),
            ("tidegate-shop inventory --fails now", "now"),
            ("tidegate-shop inventory --error-ratio NaN", "NaN"),
            ("tidegate-shop cart", "cart"),
            ("tidegate-shop load --rate 0", "0"),
        ] {
            assert!(error(line).contains(value), "{line}: {}", error(line));
        }
    }
}
