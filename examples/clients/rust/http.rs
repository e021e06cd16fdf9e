//! HTTP/1.1 as far as a request that pays needs it: one request a connection, no TLS.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PATIENCE: Duration = Duration::from_secs(120); // between two pieces of an answer
const LARGEST: u64 = 64 << 20; // bytes of an answer

pub struct Request {
    pub host: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>, // names in lower case
    pub body: Vec<u8>,
}

impl Answer {
    /// The values of a header, joined as HTTP joins them; None without it.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut values = self
            .headers
            .iter()
            .filter(|(n, _)| n == name)
            .map(|(_, v)| v.as_str());
        let first = values.next()?.to_owned();
        Some(values.fold(first, |joined, value| joined + ", " + value))
    }
}

impl Request {
    /// Reads http://host[:port][/path[?query]].
    pub fn new(url: &str, headers: Vec<(String, String)>, body: Vec<u8>) -> Result<Self> {
        let rest = url
            .strip_prefix("http://")
            .ok_or("the URL has to begin with http://")?;
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = if path.starts_with('/') {
            path.into()
        } else {
            format!("/{path}")
        };
        let sent = || {
            headers
                .iter()
                .flat_map(|(name, value)| [name.as_str(), value])
        };
        if host.is_empty()
            || [host, &path]
                .into_iter()
                .chain(sent())
                .any(|t| t.contains(['\r', '\n']))
        {
            return Err(
                "a host is missing, or there is a line break in the URL or in a header".into(),
            );
        }
        Ok(Self {
            host: host.into(),
            path,
            headers,
            body,
        })
    }

    /// Sends it, once, with one header more where there is one.
    pub fn send(&self, more: Option<(&str, &str)>) -> Result<Answer> {
        let method = if self.body.is_empty() { "GET" } else { "POST" };
        let mut head = format!("{method} {} HTTP/1.1\r\nHost: {}\r\n", self.path, self.host);
        let own = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.chain(more) {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!(
            "Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.body.len()
        );

        let port = if self.host.rsplit(']').next().unwrap_or("").contains(':') {
            ""
        } else {
            ":80"
        };
        let mut connection = TcpStream::connect(format!("{}{port}", self.host))?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        connection.write_all(head.as_bytes())?;
        connection.write_all(&self.body)?;
        let mut received = Vec::new();
        connection.take(LARGEST + 1).read_to_end(&mut received)?;
        if received.len() as u64 > LARGEST {
            return Err(format!("the answer has more than {LARGEST} bytes").into());
        }
        parse(&received)
    }
}

fn parse(received: &[u8]) -> Result<Answer> {
    let end = received.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or("the connection was closed before there was an answer")?;
    let head = String::from_utf8_lossy(&received[..end]);
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
    let status = status.ok_or("the answer is not HTTP/1.1")?;
    if (100..200).contains(&status) {
        return parse(&received[end + 4..]); // the final answer follows
    }
    let split = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers: Option<Vec<_>> = lines.map(split).collect();
    let body = received[end + 4..].to_vec();
    let mut answer = Answer {
        status,
        headers: headers.ok_or("a header has no colon")?,
        body,
    };
    if answer.header("transfer-encoding").is_some() {
        answer.body = dechunked(&answer.body).ok_or("the answer's chunks are cut or damaged")?;
    } else if let Some(length) = answer.header("content-length") {
        let cut = answer
            .body
            .get(..length.parse()?)
            .ok_or("the answer is cut")?;
        answer.body = cut.to_vec();
    }
    Ok(answer)
}

fn dechunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = body.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&body[..line])
            .ok()?
            .split(';')
            .next()?
            .trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        let rest = &body[line + 2..];
        whole.extend(rest.get(..size)?);
        body = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}
