//! Clients that do what they should not, each again and again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The longest that an attacker stays with one connection.
const STAY: Duration = Duration::from_secs(2);

/// Between two connections, and between two rounds of a flood.
const PAUSE: Duration = Duration::from_millis(20);

/// Connections that one attack has at a time, and that a crowd has: more than a peer may.
const AT_A_TIME: u64 = 12;
const CROWD: u64 = 150;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const PERSON: &str = "/api/v1/people/user_1";

/// What an attacker does with a connection.
#[derive(Debug)]
pub(crate) enum Attack {
    /// Sends these bytes, reads for a while and goes.
    Say(Vec<u8>),
    /// Sends the same for as long as it is let, and reads all there is.
    Repeat(Vec<u8>, Vec<u8>),
    /// Sends these bytes, and then one of the others now and then.
    Drip(Vec<u8>, Vec<u8>),
    /// Sends the same for as long as it is taken, and reads nothing.
    Deaf(Vec<u8>),
    /// Opens connections, as many as it gets, and keeps them.
    Crowd,
    /// Sends half of a request and resets the connection.
    Slam,
    /// Sends what chance makes of a request.
    Noise,
}

/// All attacks.
pub(crate) fn attacks() -> Vec<Attack> {
    let mut attacks = over_http_1();
    attacks.extend(over_http_2());
    attacks.extend([Attack::Crowd, Attack::Slam, Attack::Noise]);
    attacks
}

fn over_http_1() -> Vec<Attack> {
    let get =
        |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let post = |lines: &str| format!("POST /api/v1/people HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let two_framings = post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n";
    let hello = [&[0x16, 3, 1, 2, 0][..], &[1; 512]].concat();
    let said = [
        two_framings,
        post("Transfer-Encoding: chunked\r\n") + "ffffffffffffffff\r\nx",
        post("Content-Length: 99999999\r\n"),
        get("/api/v1/people/..%2f..%2fadmin", ""),
        get("http://elsewhere/api/v1/people/user_1", ""),
        get(&format!("/{}", "a".repeat(9_000)), ""),
        get(PERSON, &"X: y\r\n".repeat(200)),
        get(PERSON, &format!("X: {}\r\n", "y".repeat(64 * 1024))),
        get(PERSON, "Upgrade: h2c\r\nConnection: upgrade\r\n"),
        get(PERSON, "").replace("\r\n", "\n"),
    ];
    let mut attacks: Vec<Attack> = said
        .into_iter()
        .map(|text| Attack::Say(text.into_bytes()))
        .collect();
    attacks.extend([
        Attack::Say(hello),
        Attack::Drip(b"GET / HTTP/1.1\r\nHost:".to_vec(), b"a".to_vec()),
        Attack::Drip(b"P".to_vec(), Vec::new()),
        Attack::Drip(
            post("Content-Length: 1000\r\nContent-Type: application/json\r\n").into_bytes(),
            b" ".to_vec(),
        ),
        Attack::Deaf(get(PERSON, "").repeat(50).into_bytes()),
    ]);
    attacks
}

fn over_http_2() -> Vec<Attack> {
    let ping = frame(6, 0, 0, &[0; 8]);
    let settings = frame(4, 0, 0, &[0, 1, 0, 0, 16, 0]);
    let open = frame(1, 0, 1, &head());
    let piece = frame(9, 0, 1, b"\0\x01a\x01b");
    let reset: Vec<u8> = (0..200_u32)
        .flat_map(|number| {
            let stream = 2 * number + 1;
            [frame(1, 5, stream, &head()), frame(3, 0, stream, &[0; 4])].concat()
        })
        .collect();
    // Answers wait for a window that never opens.
    let no_window = [PREFACE, &frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
    let asked: Vec<u8> = (0..90_u32)
        .flat_map(|number| frame(1, 5, 2 * number + 1, &head()))
        .collect();
    vec![
        Attack::Repeat(PREFACE.to_vec(), ping),
        Attack::Repeat(PREFACE.to_vec(), settings),
        Attack::Repeat([PREFACE, &open].concat(), piece),
        Attack::Say([PREFACE, &reset].concat()),
        Attack::Say([&PREFACE[..24], &frame(6, 0, 0, &[0; 8])].concat()),
        Attack::Drip([PREFACE, &open].concat(), Vec::new()),
        Attack::Drip([&no_window[..], &asked].concat(), frame(6, 0, 0, &[0; 8])),
    ]
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let start = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&start, payload].concat()
}

/// `GET`, `http`, a person and a host, as HPACK (RFC 7541 §6).
fn head() -> Vec<u8> {
    let length = u8::try_from(PERSON.len()).expect("short");
    [&[0x82, 0x86, 0x04, length], PERSON.as_bytes(), b"\x01\x01a"].concat()
}

impl Attack {
    /// Does it again and again, over several connections at a time. Attackers have addresses by their
    /// numbers, several of them the same one.
    pub(crate) async fn repeat(self, gateway: SocketAddr, number: u8) {
        let from = Ipv4Addr::new(127, 0, 0, 2 + number % 4);
        let is_crowd = matches!(self, Self::Crowd);
        let attack = Arc::new(self);
        let mut connections = JoinSet::new();
        for at in 1..=if is_crowd { CROWD } else { AT_A_TIME } {
            let chance = Chance(u64::from(number) << 32 | at);
            connections.spawn(Arc::clone(&attack).repeat_one(from, gateway, chance));
        }
        connections.join_all().await;
    }

    async fn repeat_one(self: Arc<Self>, from: Ipv4Addr, gateway: SocketAddr, mut chance: Chance) {
        loop {
            // Refused or not, it comes again.
            if let Ok(stream) = connect(from, gateway).await {
                let _ = timeout(STAY, self.strike(stream, &mut chance)).await;
            }
            // Not as fast as it could: the good ones have to get a turn on this machine.
            sleep(PAUSE).await;
        }
    }

    async fn strike(&self, mut stream: TcpStream, chance: &mut Chance) -> std::io::Result<()> {
        match self {
            Self::Say(bytes) => {
                stream.write_all(bytes).await?;
                read_all(&mut stream).await
            }
            Self::Repeat(first, again) => {
                stream.write_all(first).await?;
                let (mut reading, mut writing) = stream.split();
                let flood = async {
                    let many = again.repeat(100);
                    while writing.write_all(&many).await.is_ok() {
                        sleep(PAUSE).await;
                    }
                };
                tokio::join!(flood, read_all(&mut reading)).1
            }
            Self::Drip(first, drop) => {
                stream.write_all(first).await?;
                loop {
                    sleep(Duration::from_millis(100)).await;
                    stream.write_all(drop).await?;
                }
            }
            Self::Deaf(bytes) => {
                while stream.write_all(bytes).await.is_ok() {}
                Ok(())
            }
            Self::Crowd => {
                sleep(STAY).await;
                Ok(())
            }
            Self::Slam => {
                stream.write_all(b"GET / HTTP/1.1\r\nHo").await?;
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
            }
            Self::Noise => {
                stream.write_all(&noise(chance)).await?;
                read_all(&mut stream).await
            }
        }
    }
}

/// A small generator (xorshift64*).
struct Chance(u64);

impl Chance {
    /// A number below `bound`, which is not zero.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        usize::try_from(number).expect("32 bits") % bound
    }
}

/// A request with some bytes changed.
fn noise(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = format!("POST {PERSON} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{{}}");
    bytes.insert_str(0, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut bytes = bytes.into_bytes();
    for _ in 0..=chance.below(6) {
        let at = chance.below(bytes.len());
        bytes[at] = u8::try_from(chance.below(256)).expect("a byte");
    }
    bytes
}

async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<()> {
    tokio::io::copy(stream, &mut tokio::io::sink())
        .await
        .map(|_| ())
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}
