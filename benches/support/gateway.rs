//! A gateway of a benchmark's own.

use super::{pinned, until};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tieline::config::Config;
use tieline::identity::Issuer;
use tieline_protocol::ids::{AccountId, ClientId};

pub const ACCOUNT: &str = "demo";
pub const APP: &str = "bench";
/// The admin's key.
pub const ADMIN: &str = "bench";

/// How a gateway is set up.
#[derive(Debug, Default)]
pub struct Setup {
    /// Managers who sign in as `agent-0` and so on.
    pub agents: usize,
    /// What stands in front of the accounts.
    pub settings: String,
    /// Further applications.
    pub apps: String,
}

impl Setup {
    /// The configuration file.
    pub fn text(&self) -> String {
        let agent = |number: usize| {
            let id = 1000 + number;
            format!("[[accounts.agents]]\nuser_id = \"{id}\"\nlogin = \"agent-{number}\"\npassword = \"bench\"\nroles = [\"manager\"]\n")
        };
        let agents: String = (0..self.agents).map(agent).collect();
        let Self { settings, apps, .. } = self;
        format!(
            "{settings}\n[internal]\nadmin_key = \"{ADMIN}\"\n[log]\nlevel = \"warn\"\n[[accounts]]\nid = \"{ACCOUNT}\"\n\
             [[accounts.apps]]\nclient_id = \"{APP}\"\nclient_secret = \"secret\"\n{apps}\n{agents}"
        )
    }
}

/// The gateway on core 0, with a folder of its own.
pub struct Gateway {
    child: Option<Child>,
    pub address: SocketAddr,
    issuer: Option<Issuer>,
    config: Config,
    dir: TempDir,
}

impl Gateway {
    pub async fn start(setup: &Setup) -> Self {
        let mut this = Self::set_up(setup);
        this.start_again().await;
        this
    }

    /// All but started, so that something may be put into its folder.
    pub fn set_up(setup: &Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = setup.text();
        std::fs::write(dir.path().join("bench.toml"), &text).unwrap();
        let variables = [("TIELINE__SERVER__DATA_DIR".to_owned(), dir.path().join("data").display().to_string())];
        let config = Config::from_parts(Some(("bench", &text)), variables).unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { child: None, address, issuer: None, config, dir }
    }

    pub fn data(&self) -> &std::path::Path {
        &self.config.server.data_dir
    }

    /// Starts on the same folder and port; how long that took.
    pub async fn start_again(&mut self) -> Duration {
        assert!(self.child.is_none(), "it runs already");
        let config = self.dir.path().join("bench.toml");
        let began = Instant::now();
        let child = pinned(env!("CARGO_BIN_EXE_tieline"), &["--config", config.to_str().unwrap(), "serve"])
            .env("TIELINE__SERVER__LISTEN", self.address.to_string())
            .env("TIELINE__SERVER__DATA_DIR", self.data())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("the gateway is ready", async || match super::Http::try_connect(self.address).await {
            Ok(mut http) => http.call(b"GET /readyz HTTP/1.1\r\nhost: bench\r\n\r\n").await.0 == 200,
            Err(_) => false,
        })
        .await;
        let took = began.elapsed();
        self.issuer = Some(Issuer::open(&self.config, tieline::wall_clock()).unwrap());
        took
    }

    /// Stops in good order.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let sent = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
        assert!(sent.unwrap().success());
        assert!(child.wait().unwrap().success(), "the gateway did not end in good order");
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    fn issuer(&self) -> &Issuer {
        self.issuer.as_ref().unwrap()
    }

    /// An AppJWT for an hour.
    pub fn app_token(&self) -> String {
        let account = self.issuer().directory().account(ACCOUNT).unwrap();
        self.issuer().app(&account, &ClientId::from(APP), Duration::from_secs(3600)).unwrap()
    }

    /// A ConsumerJWS.
    pub fn consumer_token(&self, ext_id: &str) -> String {
        self.issuer().consumer(&AccountId::from(ACCOUNT), &ClientId::from(APP), ext_id).unwrap().1
    }

    /// Lets it forget which tokens are well signed, as each reload does.
    pub async fn forget_tokens(&self) {
        let reloads = async || self.metric("tieline_config_reloads_total").await;
        let before = reloads().await;
        assert!(Command::new("kill").arg("-HUP").arg(self.pid().to_string()).status().unwrap().success());
        until("the gateway has reloaded", async || reloads().await > before).await;
    }

    /// An agent's bearer for an hour.
    pub fn agent_token(&self, number: usize) -> String {
        let account = self.issuer().directory().account(ACCOUNT).unwrap();
        let agent = account.agent_by_login(&format!("agent-{number}")).unwrap();
        self.issuer().agent(&account, agent, Duration::from_secs(3600)).unwrap()
    }

    /// Waits until the store has done what it puts off while it is asked for more.
    pub async fn settled(&self) {
        until("the journal is projected", async || self.metric("tieline_store_unprojected").await == 0.0).await;
    }

    /// One value of `/metrics`: the sum over its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let mut http = super::Http::connect(self.address).await;
        let (status, body) = http.call(b"GET /metrics HTTP/1.1\r\nhost: bench\r\n\r\n").await;
        assert_eq!(status, 200);
        let text = std::str::from_utf8(body).unwrap();
        let values = text.lines().filter(|line| line.split([' ', '{']).next() == Some(name));
        values.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
