//! A wire that a test can hold: TCP connections pass until they are stalled or cut.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Passes connections on to one server. Ends with its connections when dropped.
pub struct Proxy {
    pub port: u16,
    wire: watch::Sender<Wire>,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Copy)]
struct Wire {
    stalled: bool,
    /// What each piece waits for, on its way in either direction.
    delay: Duration,
    /// Raised by every cut; a connection of an older one is over.
    cuts: u64,
}

impl Proxy {
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (wire, held) = watch::channel(Wire { stalled: false, delay: Duration::ZERO, cuts: 0 });
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let held = held.clone();
                tokio::spawn(pass(client, server, held));
            }
        });
        Self { port, wire, accepting }
    }

    /// Nothing passes for a while, in neither direction; connections stay, new ones are accepted and wait.
    pub async fn stall(&self, time: Duration) {
        self.wire.send_modify(|wire| wire.stalled = true);
        sleep(time).await;
        self.wire.send_modify(|wire| wire.stalled = false);
    }

    /// From now on everything takes that much longer, each way.
    pub fn slow(&self, delay: Duration) {
        self.wire.send_modify(|wire| wire.delay = delay);
    }

    /// Every open connection ends at once; new ones pass.
    pub fn cut(&self) {
        self.wire.send_modify(|wire| wire.cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn pass(client: TcpStream, server: SocketAddr, mut wire: watch::Receiver<Wire>) {
    let since = wire.borrow().cuts;
    let passing = {
        let wire = wire.clone();
        async move {
            let server = TcpStream::connect(server).await.ok()?;
            for side in [&client, &server] {
                side.set_nodelay(true).ok()?;
            }
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::join!(
                forward(from_client, to_server, wire.clone()),
                forward(from_server, to_client, wire)
            );
            Some(())
        }
    };
    tokio::select! {
        _ = passing => {}
        _ = wire.wait_for(|wire| wire.cuts != since) => {}
    }
}

/// Passes bytes on to the end of the stream, which is passed on, too.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut wire: watch::Receiver<Wire>) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        // The proxy itself is gone when there is nobody to ask.
        let Ok(delay) = wire.wait_for(|wire| !wire.stalled).await.map(|wire| wire.delay) else {
            return;
        };
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    let _ = wire.wait_for(|wire| !wire.stalled).await;
    let _ = to.shutdown().await;
}
