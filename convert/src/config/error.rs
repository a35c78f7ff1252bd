use core::fmt;

/// Why a configuration file was refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is larger than [`MAX_CONFIG_BYTES`](super::MAX_CONFIG_BYTES).
    TooLarge,
    /// The file is neither JSON nor YAML.
    Syntax(String),
    /// The file is not a mapping of keys to values.
    NotAMapping,
    /// A key without meaning here.
    UnknownKey(String),
    /// A value of the wrong type or outside its range.
    BadValue {
        /// The key.
        key: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// denoir does not have the configured sampler.
    UnknownSampler(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::TooLarge => f.write_str("the configuration is larger than 1 MiB"),
            ConfigError::Syntax(what) => write!(f, "the configuration is neither JSON nor YAML: {what}"),
            ConfigError::NotAMapping => f.write_str("the configuration is not a mapping of keys to values"),
            ConfigError::UnknownKey(key) => write!(f, "unknown configuration key {key:?}"),
            ConfigError::BadValue { key, wanted } => write!(f, "configuration key {key:?} must be {wanted}"),
            ConfigError::UnknownSampler(class) => {
                write!(
                    f,
                    "the configuration's sampler {class:?} is not known; give the sampler in a JSON configuration"
                )
            }
        }
    }
}

impl core::error::Error for ConfigError {}
