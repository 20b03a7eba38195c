//! What happens on the stage, and in which order.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use tokio::time::sleep;

use super::DemoError;
use super::load::{Client, RATE};
use super::replica::{Replica, Speaks};
use super::services::Services;
use super::telling::Teller;
use crate::clock;
use crate::provider::given::Giver;

/// The host that the route `api` moves to.
const API_HOST: &str = "api.localhost";

/// How long the story waits for what ought to come at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// The replicas, and what the edge is told about them.
#[derive(Debug)]
pub(super) struct Stage {
    edge: SocketAddr,
    giver: Giver,
    services: Services,
    replicas: [Replica; 3],
}

impl Stage {
    /// Replicas that live, and an edge that knows of them.
    pub(super) fn set(edge: SocketAddr, giver: Giver) -> Result<Self, DemoError> {
        let start = |name, speaks| start(name, speaks, edge);
        let replicas = [
            start("shop-1", Speaks::Http)?,
            start("shop-2", Speaks::Http)?,
            start("hello-1", Speaks::Grpc)?,
        ];
        let [first, second, hello] = &replicas;
        let shop = vec![first.address, second.address];
        let services = Services { shop, hello: hello.address, api_host: None };
        let stage = Self { edge, giver, services, replicas };
        stage.publish()?;
        Ok(stage)
    }

    /// Says what runs where and what can be tried.
    pub(super) fn introduce(&self, out: &mut dyn Write) -> io::Result<()> {
        let [first, second, hello] = self.replicas.each_ref().map(|replica| replica.address);
        let services = self.services.to_string().trim_end().replace('\n', "\n  ");
        writeln!(
            out,
            include_str!("introduction.txt"),
            edge = self.edge,
            first = first,
            second = second,
            hello = hello,
            services = services.replace("\n  \n", "\n\n"),
            port = self.edge.port(),
            rate = RATE,
        )
    }

    /// One round of the story; at its end everything is as it was.
    pub(super) async fn play(&mut self, teller: &mut Teller<'_>) -> Result<(), DemoError> {
        teller.say("Two replicas share the shop, and one answers gRPC calls.")?;
        teller.watch().await?;
        self.lose_and_regain(teller).await?;
        let third = self.grow(teller).await?;
        if !teller.is_quiet() {
            // Not while somebody who tries the lines above would wonder.
            self.move_route(teller).await?;
        }
        self.shrink(third, teller).await
    }

    async fn lose_and_regain(&mut self, teller: &mut Teller<'_>) -> Result<(), DemoError> {
        let [_, second, _] = &mut self.replicas;
        let since = clock::now();
        while second.under_way() == 0 && clock::now().since(since) < PATIENCE {
            sleep(Duration::from_millis(1)).await;
        }
        let under_way = second.under_way();
        second.die().await;
        let requests = if under_way == 1 { "request" } else { "requests" };
        teller.say(format!(
            "shop-2 dies with {under_way} {requests} under way: its port closes, its connections \
             are cut.\nThe edge sends what was under way to shop-1."
        ))?;
        teller.watch().await?;
        second.come_back().map_err(DemoError::Replica)?;
        teller.say("shop-2 is back. The edge has kept knocking, and finds its port open.")?;
        Ok(teller.watch().await?)
    }

    async fn grow(&mut self, teller: &mut Teller<'_>) -> Result<Replica, DemoError> {
        let third = start("shop-3", Speaks::Http, self.edge)?;
        self.services.shop.push(third.address);
        self.publish()?;
        teller.say(format!("shop-3 joins: {} is now among the endpoints.", third.address))?;
        teller.watch().await?;
        Ok(third)
    }

    async fn move_route(&mut self, teller: &mut Teller<'_>) -> Result<(), DemoError> {
        let url = format!("http://{API_HOST}:{}/api/cart", self.edge.port());
        let mut client = Client::new(self.edge);
        let mut status = async || match client.ask(&url).await {
            Ok(answer) => answer.status.to_string(),
            Err(failure) => failure.to_string(),
        };
        let before = status().await;
        self.services.api_host = Some(API_HOST);
        let changed_at = clock::now();
        self.publish()?;
        let waited = || clock::now().since(changed_at);
        let mut after = status().await;
        while after != StatusCode::OK.to_string() && waited() < PATIENCE {
            sleep(Duration::from_millis(1)).await;
            after = status().await;
        }
        let millis = waited().as_millis();
        teller.say(format!(
            "A label moves the route `api`: hiveway.routes.api.host = \"{API_HOST}\"\n\n  \
             {url}\n  \
             before: {before}\n  \
             after:  {after}, with the answer there {millis} ms after the change"
        ))?;
        Ok(teller.watch().await?)
    }

    async fn shrink(
        &mut self,
        mut third: Replica,
        teller: &mut Teller<'_>,
    ) -> Result<(), DemoError> {
        self.services.shop.pop();
        self.services.api_host = None;
        self.publish()?;
        teller.say("shop-3 leaves as planned: it is no endpoint any more, then it ends.")?;
        teller.figures().await?;
        third.die().await;
        Ok(teller.figures().await?)
    }

    fn publish(&self) -> Result<(), DemoError> {
        self.giver.give(self.services.inventory()?, None);
        Ok(())
    }
}

/// A replica on one of the ports after the edge's.
fn start(name: &'static str, speaks: Speaks, edge: SocketAddr) -> Result<Replica, DemoError> {
    Replica::start(name, speaks, edge.port().saturating_add(1)).map_err(DemoError::Replica)
}
