//! How a server is reached: what URL, options and properties say together.

use std::time::Duration;

use karez_core::config::{ConfigError, ConfigErrors, Secret, Span};

use super::super::options::{Access, PoolOptions, TlsMode, TlsOptions};
use super::super::url::{Server, ServerUrl};

/// How a server is reached. A driver takes what it knows out of `parameters` ([`Self::take`]) and refuses the rest ([`Self::refuse_rest`]).
#[derive(Clone, Debug)]
pub(in super::super) struct Settings {
    pub(in super::super) server: Server,
    pub(in super::super) hosts: Vec<(String, u16)>,
    pub(in super::super) database: Option<String>,
    pub(in super::super) username: Option<String>,
    pub(in super::super) password: Option<Secret>,
    pub(in super::super) tls: TlsOptions,
    pub(in super::super) pool: PoolOptions,
    /// `None`: the default.
    pub(in super::super) connect_timeout: Option<Duration>,
    /// `None`: no limit.
    pub(in super::super) statement_timeout: Option<Duration>,
    /// Of the URL and of `properties`, by name, with the option they stand in; values may be secrets.
    parameters: Vec<Parameter>,
}

#[derive(Clone)]
struct Parameter {
    option: &'static str,
    name: String,
    value: String,
}

impl std::fmt::Debug for Parameter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=***", self.name)
    }
}

/// A parameter taken out, with where it stands.
#[derive(Clone)]
pub(in super::super) struct Taken {
    path: String,
    pub(in super::super) value: String,
}

impl Taken {
    /// An error about it.
    pub(in super::super) fn wrong(&self, message: impl Into<String>) -> ConfigError {
        ConfigError::new(self.path.clone(), message)
    }

    /// `true`, `false`, `1`, `0`, or nothing for true.
    pub(in super::super) fn bool(&self) -> Result<bool, ConfigError> {
        match self.value.to_ascii_lowercase().as_str() {
            "" | "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err(self.wrong("must be true or false")),
        }
    }

    /// A whole number.
    pub(in super::super) fn number(&self) -> Result<u64, ConfigError> {
        self.value.parse().map_err(|_| self.wrong("must be a whole number"))
    }
}

impl Settings {
    /// Puts URL and options together. Where both say something, the option counts; drivers do so with what they take out of the parameters, too.
    pub(in super::super) fn new(access: &Access<'_>, url: &ServerUrl) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut username = access.username.map(str::to_owned).or_else(|| url.username.clone());
        let mut password = access.password.cloned().or_else(|| url.password.clone());
        let mut parameters: Vec<Parameter> =
            url.parameters.iter().map(|(name, value)| Parameter { option: "url", name: name.clone(), value: value.clone() }).collect();
        for (name, value) in access.properties {
            match name.as_str() {
                "user" => username = username.or_else(|| Some(value.text())),
                "password" => password = password.or_else(|| Some(Secret::new(value.text()))),
                _ => parameters.push(Parameter { option: "properties", name: name.clone(), value: value.text() }),
            }
        }
        let tls = access.tls.cloned().unwrap_or_default();
        if tls.cert.is_some() != tls.key.is_some() {
            errors.push(ConfigError::new("tls", "`cert` and `key` belong together").hint("give both or none"));
        }
        if tls.mode == Some(TlsMode::Disable) && (tls.ca.is_some() || tls.cert.is_some()) {
            errors.push(ConfigError::new("tls.mode", "is `disable`, so certificates have no use").hint("remove them, or set another mode"));
        }
        if access.pool.is_some_and(|p| p.max_size == Some(0)) {
            errors.push(ConfigError::new("pool.maxSize", "must be at least 1"));
        }
        for (key, span) in [("connectTimeout", access.connect_timeout), ("statementTimeout", access.statement_timeout)] {
            if span.is_some_and(|s| s.0.is_zero()) {
                errors.push(ConfigError::new(key, "must be longer than nothing").hint("remove it for the default"));
            }
        }
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        Ok(Self {
            server: url.server,
            hosts: url.hosts.clone(),
            database: url.database.clone(),
            username,
            password,
            tls,
            pool: access.pool.unwrap_or_default(),
            connect_timeout: access.connect_timeout.map(|Span(d)| d),
            statement_timeout: access.statement_timeout.map(|Span(d)| d),
            parameters,
        })
    }

    /// How long setting a connection up may take.
    pub(in super::super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout.unwrap_or(Duration::from_secs(10))
    }

    /// The most connections of the node, where there is a limit.
    pub(in super::super) fn max_connections(&self) -> Option<usize> {
        self.pool.max_size.map(|n| n as usize)
    }

    /// How much is asked of the server: as the option says, else `verify-full` where an authority is named, else `prefer`. Who names an authority means it
    /// to be asked for: with one `require` is `verify-ca`, as in libpq.
    pub(in super::super) fn tls_mode(&self) -> TlsMode {
        match (self.tls.mode, &self.tls.ca) {
            (Some(TlsMode::Require), Some(_)) => TlsMode::VerifyCa,
            (Some(mode), _) => mode,
            (None, Some(_)) => TlsMode::VerifyFull,
            (None, None) => TlsMode::Prefer,
        }
    }

    /// The last value of a parameter under any of its names (letter case aside); it counts as known from then on.
    pub(in super::super) fn take(&mut self, names: &[&str]) -> Option<Taken> {
        let mut taken = None;
        self.parameters.retain(|p| {
            if !names.iter().any(|n| n.eq_ignore_ascii_case(&p.name)) {
                return true;
            }
            let path = if p.option == "url" { "url".to_owned() } else { format!("{}.{}", p.option, p.name) };
            taken = Some(Taken { path, value: p.value.clone() });
            false
        });
        taken
    }

    /// Drops parameters that change nothing here, such as the Java driver's switches for what this connector always does.
    pub(in super::super) fn without_effect(&mut self, names: &[&str]) {
        self.take(names);
    }

    /// Refuses the parameters nobody took, by name; `known` are those a driver takes, for suggestions.
    pub(in super::super) fn refuse_rest(&self, known: &[&str]) -> Result<(), ConfigErrors> {
        let errors: Vec<ConfigError> = self
            .parameters
            .iter()
            .map(|p| {
                let path = if p.option == "url" { "url".to_owned() } else { format!("{}.{}", p.option, p.name) };
                let error = ConfigError::new(path, format!("the parameter `{}` is not known for {}", p.name, self.server.name()));
                match karez_core::error::did_you_mean(&p.name, known.iter().copied()) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error.hint(format!("remove it; known: {}", known.join(", "))),
                }
            })
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }

    /// The server and database, for messages: `postgresql://host:5432/shop`.
    pub(in super::super) fn place(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(|(h, p)| if h.contains(':') { format!("[{h}]:{p}") } else { format!("{h}:{p}") }).collect();
        format!("{}://{}/{}", self.server.scheme(), hosts.join(","), self.database.as_deref().unwrap_or_default())
    }
}
