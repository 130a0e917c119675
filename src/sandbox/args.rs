//! The command line of `flameup-gateway sandbox`.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::SignedDuration;

use super::limiter::Kind;
use super::options::{ApiKey, DEMO_WORKSPACE, Options};
use super::people::Shape;
use super::pool::LimiterOptions;

/// Options of the `sandbox` command; durations are text such as `60s` or `1m 30s`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address the API listens on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8088")]
    pub listen: SocketAddr,
    /// Address of the control listener, on loopback; none unless given
    #[arg(long, value_name = "ADDRESS")]
    pub control: Option<SocketAddr>,
    /// Decides who the people are
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many people there are
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    pub people: u64,
    /// Requests per window and key
    #[arg(long, value_name = "COUNT", default_value_t = 120)]
    pub limit: u32,
    /// Length of the window
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub window: Duration,
    /// How the window moves
    #[arg(long, value_enum, default_value_t)]
    pub limiter: Kind,
    /// How far the clock in the headers is ahead; negative is behind
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = signed,
          allow_hyphen_values = true)]
    pub skew: SignedDuration,
    /// Requests a minute somebody else spends from the same key
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub foreign: u32,
    /// Time before each answer
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub latency: Duration,
    /// Which of the two documented person bodies is answered
    #[arg(long, value_enum, default_value_t)]
    pub shape: Shape,
    /// A key to accept, `KEY` or `KEY=WORKSPACE`; repeatable. A demo key unless given
    #[arg(long = "api-key", value_name = "KEY")]
    pub api_keys: Vec<String>,
}

impl From<Args> for Options {
    fn from(args: Args) -> Self {
        let defaults = Self::default();
        let keys: Vec<ApiKey> = args.api_keys.iter().map(|text| key(text)).collect();
        Self {
            listen: args.listen,
            control_listen: args.control,
            seed: args.seed,
            people: args.people,
            api_keys: if keys.is_empty() {
                defaults.api_keys
            } else {
                keys
            },
            limiter: LimiterOptions {
                kind: args.limiter,
                limit: args.limit,
                window: args.window,
                skew_s: args.skew.as_secs(),
                foreign_per_minute: args.foreign,
                ..LimiterOptions::default()
            },
            shape: args.shape,
            latency: args.latency,
            ..defaults
        }
    }
}

fn key(text: &str) -> ApiKey {
    let (key, workspace) = text.split_once('=').unwrap_or((text, DEMO_WORKSPACE));
    ApiKey::new(key, workspace)
}

fn signed(text: &str) -> Result<SignedDuration, jiff::Error> {
    text.parse()
}

pub(super) fn duration(text: &str) -> Result<Duration, jiff::Error> {
    signed(text).and_then(Duration::try_from)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn options(line: &[&str]) -> Option<Options> {
        let words = ["sandbox"].iter().chain(line);
        Command::try_parse_from(words)
            .ok()
            .map(|command| command.args.into())
    }

    #[test]
    fn the_defaults_are_flameup_as_documented() {
        let options = options(&[]).expect("is valid");
        assert_eq!(options.limiter, LimiterOptions::default());
        assert_eq!(options.api_keys, [ApiKey::default()]);
    }

    #[test]
    fn durations_skew_and_keys_are_read_as_text() {
        let line = [
            "--window",
            "1m 30s",
            "--skew",
            "-5m",
            "--api-key",
            "k=ws_1",
            "--limiter",
            "sliding",
        ];
        let options = options(&line).expect("is valid");
        assert_eq!(options.limiter.window, Duration::from_secs(90));
        assert_eq!(options.limiter.skew_s, -300);
        assert_eq!(options.limiter.kind, Kind::Sliding);
        assert_eq!(options.api_keys, [ApiKey::new("k", "ws_1")]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(options(&["--window", "-1s"]).is_none());
        assert!(options(&["--window", "soon"]).is_none());
        assert!(options(&["--limiter", "leaky"]).is_none());
    }
}
