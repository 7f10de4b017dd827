//! The shop, in the test's own process: each service on a port of the system's choice.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use tidegate::shop::inventory::{Inventory, LivePlant};
use tidegate::shop::order::Order;
use tidegate::shop::traffic::Traffic;
use tidegate::shop::upstream::Upstream;
use tidegate::shop::{control, service, user};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::Http;

/// A running service; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    /// What it has answered.
    pub(crate) traffic: Traffic,
    pub(crate) shutdown: CancellationToken,
    pub(crate) server: JoinHandle<()>,
    /// The plant's own work.
    plant: Option<JoinHandle<()>>,
}

/// A service that listens and doesn't answer yet: its address is known before the others'.
#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
}

// === impl Door ===

impl Door {
    pub(crate) async fn open() -> Door {
        Door { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(crate) fn user(self) -> Service {
        let traffic = Traffic::default();
        self.serve(user::router(&traffic), traffic, None)
    }

    pub(crate) fn inventory(self, inventory: &Inventory) -> Service {
        let traffic = Traffic::default();
        self.serve(inventory.router(&traffic), traffic, inventory.plant().cloned())
    }

    /// An order service that asks the other two at these addresses.
    pub(crate) fn order(self, user: SocketAddr, inventory: SocketAddr) -> Service {
        let traffic = Traffic::default();
        let at = |address: SocketAddr| format!("http://{address}").parse().unwrap();
        let order =
            Order { user: Upstream::new("user", at(user)), inventory: Upstream::new("inventory", at(inventory)) };
        self.serve(order.router(&traffic), traffic, None)
    }

    /// The knobs of a plant, which works meanwhile.
    pub(crate) fn control(self, plant: &LivePlant) -> Service {
        let (traffic, shutdown) = (Traffic::default(), CancellationToken::new());
        let address = self.address();
        let server = tokio::spawn(service::serve(self.listener, control::router(plant.clone()), shutdown.clone()));
        Service { address, traffic, shutdown, server, plant: None }
    }

    fn serve(self, router: Router, traffic: Traffic, plant: Option<LivePlant>) -> Service {
        let (address, shutdown) = (self.address(), CancellationToken::new());
        let router = service::complete(router, &traffic, plant.clone());
        let server = tokio::spawn(service::serve(self.listener, router, shutdown.clone()));
        let plant = plant.map(|plant| tokio::spawn(async move { plant.run().await }));
        Service { address, traffic, shutdown, server, plant }
    }
}

// === impl Service ===

impl Service {
    pub(crate) fn http(&self) -> Http {
        Http::new(self.address)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.server.abort();
        if let Some(plant) = &self.plant {
            plant.abort();
        }
    }
}
