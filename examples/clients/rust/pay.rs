//! A request that pays:
//!
//!     rustc --edition=2021 -O pay.rs && ./pay [--max-work N] [-H 'Name: value']... [-d BODY] URL

mod http;
mod powfast;
mod sha256;

use http::{Answer, Request};
use std::error::Error;
use std::io::Write;

/// Of one request: what is asked before it runs, and what its answer cost beyond that.
const MOST_CHALLENGES: usize = 2;

/// Sends a request, and sends it again with a solution where the answer asks for one.
///
/// Redirects are handed to the caller, so a solution stays where its challenge came from.
fn ask(request: &Request, max_work: u64) -> Result<Answer, Box<dyn Error>> {
    let mut answer = request.send(None)?;
    for paid in 0..MOST_CHALLENGES {
        // without a receipt, a second challenge says that the first solution was refused
        if !(400..500).contains(&answer.status)
            || (paid > 0 && answer.header("pow-receipt").is_none())
        {
            break;
        }
        let asked = answer.header("www-authenticate").unwrap_or_default();
        let solution = match powfast::challenge_in(&asked) {
            Some(challenge) => powfast::solve(challenge, max_work)?,
            None => break,
        };
        answer = request.send(Some(("PoW-Solution", &solution)))?;
    }
    Ok(answer)
}

fn run() -> Result<(), Box<dyn Error>> {
    let (mut max_work, mut headers, mut body, mut url) =
        (powfast::DEFAULT_MAX_WORK, Vec::new(), Vec::new(), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} takes a value"));
        match argument.as_str() {
            "--max-work" => max_work = value()?.parse()?,
            "-d" => body = value()?.into_bytes(),
            "-H" => {
                let line = value()?;
                let (name, value) = line.split_once(':').ok_or("-H takes 'Name: value'")?;
                headers.push((name.to_owned(), value.trim().to_owned()));
            }
            _ => url = Some(argument),
        }
    }
    let url = url.ok_or("usage: pay [--max-work N] [-H 'Name: value']... [-d BODY] URL")?;
    let answer = ask(&Request::new(&url, headers, body)?, max_work)?;
    std::io::stdout().write_all(&answer.body)?;
    if answer.status < 300 {
        Ok(())
    } else {
        Err(format!("HTTP {}", answer.status).into())
    }
}

fn main() {
    if let Err(error) = run() {
        eprintln!("pay: {error}");
        std::process::exit(1);
    }
}
