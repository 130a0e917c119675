//! What headers say.

use super::kit::{Fate, Kit, STORED};

/// Host lines that name no host, or several.
const HOSTS: &[&[u8]] = &[
    b"",
    b"Host:\r\n",
    b"Host: \r\n",
    b"Host: \t\r\n",
    b"Host: a\r\nHost: a\r\n",
    b"Host: a\r\nHost: b\r\n",
    b"Host: a\r\nX: y\r\nhost: a\r\n",
    b"Host: a\r\nHost:\r\n",
    b"Host: a, b\r\n",
    b"Host: a b\r\n",
    b"Host: a\tb\r\n",
    b"Host: a;b\r\n",
    b"Host: b@a\r\n",
    b"Host: b:c@a\r\n",
    b"Host: @a\r\n",
    b"Host: a@\r\n",
    b"Host: a:\r\n",
    b"Host: a:0\r\n",
    b"Host: a:65536\r\n",
    b"Host: a:99999\r\n",
    b"Host: a:4294967376\r\n",
    b"Host: a:x\r\n",
    b"Host: a:80x\r\n",
    b"Host: a:-80\r\n",
    b"Host: a:+80\r\n",
    b"Host: a: 80\r\n",
    b"Host: a :80\r\n",
    b"Host: a:80:80\r\n",
    b"Host: :80\r\n",
    b"Host: a:80/\r\n",
    b"Host: a:80@b\r\n",
    b"Host: a/b\r\n",
    b"Host: a/../b\r\n",
    b"Host: /a\r\n",
    b"Host: http://a\r\n",
    b"Host: a?b\r\n",
    b"Host: a#b\r\n",
    b"Host: a\\b\r\n",
    b"Host: a%2fb\r\n",
    b"Host: %61\r\n",
    b"Host: a%00\r\n",
    b"Host: a\0\r\n",
    b"Host: a\x01\r\n",
    b"Host: a\x7f\r\n",
    b"Host: \xe9\r\n",
    b"Host: a\xff\r\n",
    b"Host: \xc3\xa9.org\r\n",
    b"Host: a\xa0\r\n",
    b"Host: \xef\xbd\x81\r\n",
    b"Host: [::1\r\n",
    b"Host: ::1\r\n",
    b"Host: [a]\r\n",
    b"Host: []\r\n",
    b"Host: [::1]a\r\n",
    b"Host: [::1]:x\r\n",
    b"Host: [::1%25eth0]\r\n",
    b"Host: \"a\"\r\n",
    b"Host: 'a'\r\n",
    b"Host: <a>\r\n",
    b"Host: a'b\r\n",
    b"Host: a*\r\n",
    b"Host: a!b\r\n",
    b"Host: a$b\r\n",
    b"Host: a&b\r\n",
    b"Host: (a)\r\n",
    b"Host: {a}\r\n",
    b"Host: a|b\r\n",
    b"Host: a^b\r\n",
    b"Host : a\r\n",
    b"Host\t: a\r\n",
    b" Host: a\r\n",
    b"\tHost: a\r\n",
    b"Host: a\r\n b\r\n",
    b"Host:\r\n a\r\n",
    b"Host: a\nX: y\r\n",
    b"Host: a\rX: y\r\n",
    b"Host: a\r\rX: y\r\n",
    b"Host\r\n",
    b"Host a\r\n",
    b"Host=a\r\n",
    b"Ho st: a\r\n",
    b"H\xc3\xb6st: a\r\n",
    b"X-Host: a\r\n",
    b"X-Forwarded-Host: a\r\n",
];

#[tokio::test]
async fn a_request_that_names_no_host_or_several_ends_the_connection() {
    let mut kit = Kit::start().await;
    for hosts in HOSTS {
        for start in [format!("GET {STORED}"), "POST /api/v1/people".to_owned()] {
            let start = format!("{start} HTTP/1.1\r\n");
            kit.try_out([start.as_bytes(), hosts, b"\r\n"].concat(), Fate::Closed)
                .await;
        }
    }
    for target in ["http://b", "http://b@a", "http://a:0", "ftp://a"] {
        let line = format!("GET {target}{STORED} HTTP/1.0\r\n");
        for host in ["", "Host: a\r\n"] {
            kit.try_out(format!("{line}{host}\r\n"), Fate::Closed).await;
        }
    }
    kit.end(170).await;
}

/// Header lines that are none.
const LINES: &[&[u8]] = &[
    b"X: y\n",
    b"X: y\nZ: z\r\n",
    b"X: y\r",
    b"X: y\rZ: z\r\n",
    b"X: y\r\r\n",
    b"X: \ry\r\n",
    b"X: y\n\r\n",
    b"X: \0\r\n",
    b"X: a\0b\r\n",
    b"X: \x01\r\n",
    b"X: \x08\r\n",
    b"X: \x0b\r\n",
    b"X: \x0c\r\n",
    b"X: \x1b[2J\r\n",
    b"X: \x1f\r\n",
    b"X: \x7f\r\n",
    b"X : y\r\n",
    b"X\t: y\r\n",
    b"X \t : y\r\n",
    b" X: y\r\n",
    b"\tX: y\r\n",
    b"X: y\r\n z\r\n",
    b"X: y\r\n\tz\r\n",
    b"X: y\r\n \r\n",
    b"X:\r\n y\r\n",
    b"X\r\n",
    b"X y\r\n",
    b": y\r\n",
    b":\r\n",
    b"=\r\n",
    b"X\0: y\r\n",
    b"X\x01: y\r\n",
    b"X\x7f: y\r\n",
    b"X\xe9: y\r\n",
    b"\xff: y\r\n",
    b"X\"Y: z\r\n",
    b"X(Y): z\r\n",
    b"X,Y: z\r\n",
    b"X/Y: z\r\n",
    b"X;Y: z\r\n",
    b"X<Y>: z\r\n",
    b"X=Y: z\r\n",
    b"X?Y: z\r\n",
    b"X@Y: z\r\n",
    b"X[Y]: z\r\n",
    b"X\\Y: z\r\n",
    b"X{Y}: z\r\n",
    b"X Y: z\r\n",
    b"GET / HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    // What asks for something else than the first line.
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
    b"Upgrade: h2c\r\n",
    b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    b"Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n",
    b"Upgrade: HTTP/3.0\r\n",
    b"Upgrade: connect-udp\r\nConnection: upgrade\r\nCapsule-Protocol: ?1\r\n",
    b"upgrade:\r\n",
    b"Expect: 200-ok\r\n",
    b"Expect:\r\n",
    b"Expect: 100-continue, x\r\n",
    b"Expect: x=y\r\n",
    b"Expect: 100-continuex\r\n",
    b"X-HTTP-Method-Override: DELETE\r\n",
    b"X-HTTP-Method-Override: GET\r\n",
    b"x-http-method-override:\r\n",
    b"X-HTTP-Method: PUT\r\n",
    b"X-Method-Override: PATCH\r\n",
    b"Content-Type: application/json\r\nContent-Type: text/plain\r\n",
    b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
];

#[tokio::test]
async fn a_header_that_is_none_or_asks_for_something_else_is_refused() {
    let mut kit = Kit::start().await;
    for line in LINES {
        for start in [
            format!("GET {STORED}"),
            format!("HEAD {STORED}"),
            "POST /api/v1/people".to_owned(),
            "DELETE /api/v1/people/user_1".to_owned(),
        ] {
            let start = format!("{start} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
            let offence = [start.as_bytes(), line, b"\r\n"].concat();
            kit.try_out(offence, Fate::Refused).await;
        }
    }
    kit.end(270).await;
}
