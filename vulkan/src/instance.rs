//! The loader, the instance and, for tests, the validation layers.

use std::ffi::{CStr, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use ash::{ext, khr, vk};

use crate::Error;
use crate::calls::{Calls, Make};

const LAYER: &CStr = c"VK_LAYER_KHRONOS_validation";

/// Use of the validation layers.
#[derive(Clone, Debug, Default)]
pub enum Validation {
    /// Off.
    #[default]
    Off,
    /// Errors and warnings are collected.
    On(Messages),
    /// Synchronisation is checked too.
    Synchronisation(Messages),
}

/// The messages of the validation layers.
#[derive(Clone, Debug, Default)]
pub struct Messages(Arc<Mutex<Vec<String>>>);

impl Messages {
    /// The messages so far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Validation {
    fn messages(&self) -> Option<&Messages> {
        match self {
            Validation::Off => None,
            Validation::On(messages) | Validation::Synchronisation(messages) => Some(messages),
        }
    }
}

/// The loader and an instance.
pub(crate) struct Instance {
    pub(crate) raw: ash::Instance,
    pub(crate) calls: Calls,
    debug: Option<(ext::debug_utils::Instance, vk::DebugUtilsMessengerEXT)>,
    /// The Vulkan version of the instance.
    pub(crate) version: u32,
    /// Keeps alive what the messenger writes to.
    _messages: Option<Messages>,
    /// Holds the library open; last, so that it is closed last.
    pub(crate) entry: ash::Entry,
}

impl Instance {
    pub(crate) fn new(calls: Calls, validation: &Validation) -> Result<Instance, Error> {
        // SAFETY: loading the system's Vulkan loader runs its initialisers, as for any shared library.
        let entry = unsafe { ash::Entry::load() }.map_err(|e| Error::NoLoader(e.to_string()))?;
        // SAFETY: no preconditions.
        let version = calls.make("vkEnumerateInstanceVersion", || unsafe { entry.try_enumerate_instance_version() })?;
        let version = version.unwrap_or(vk::API_VERSION_1_0).min(vk::API_VERSION_1_3);
        if version < vk::API_VERSION_1_1 {
            return Err(Error::Missing { device: "loader".into(), what: "Vulkan 1.1" });
        }
        let application = vk::ApplicationInfo::default().engine_name(c"denoir").api_version(version);
        let mut extensions = Vec::new();
        let mut layers = Vec::new();
        let mut flags = vk::InstanceCreateFlags::empty();
        if has_extension(&entry, &calls, khr::portability_enumeration::NAME)? {
            extensions.push(khr::portability_enumeration::NAME.as_ptr());
            flags |= vk::InstanceCreateFlags::ENUMERATE_PORTABILITY_KHR;
        }
        let messages = validation.messages().cloned();
        let mut messenger = messages.as_ref().map(messenger_info);
        if messages.is_some() {
            require_layer(&entry, &calls)?;
            extensions.push(ext::debug_utils::NAME.as_ptr());
            layers.push(LAYER.as_ptr());
        }
        let mut info = vk::InstanceCreateInfo::default()
            .application_info(&application)
            .enabled_extension_names(&extensions)
            .enabled_layer_names(&layers)
            .flags(flags);
        let enables = [vk::ValidationFeatureEnableEXT::SYNCHRONIZATION_VALIDATION];
        let mut features = vk::ValidationFeaturesEXT::default().enabled_validation_features(&enables);
        if let Some(messenger) = &mut messenger {
            info = info.push_next(messenger);
        }
        if matches!(validation, Validation::Synchronisation(_)) {
            info = info.push_next(&mut features);
        }
        // SAFETY: every pointer in `info` is to something that lives until the call returns.
        let raw = calls.make("vkCreateInstance", || unsafe { entry.create_instance(&info, None) });
        let raw = match raw {
            Err(Error::Call { result: vk::Result::ERROR_INCOMPATIBLE_DRIVER, .. }) => return Err(Error::NoDevice),
            other => other?,
        };
        let mut instance = Instance { entry, raw, calls, debug: None, version, _messages: messages.clone() };
        if let Some(messages) = &messages {
            let debug = ext::debug_utils::Instance::new(&instance.entry, &instance.raw);
            let info = messenger_info(messages);
            // SAFETY: the callback and the messages that it writes to outlive the messenger.
            let messenger = instance.calls.make("vkCreateDebugUtilsMessengerEXT", || unsafe {
                debug.create_debug_utils_messenger(&info, None)
            })?;
            instance.debug = Some((debug, messenger));
        }
        Ok(instance)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: all devices of this instance are gone: each holds it alive.
        unsafe {
            if let Some((debug, messenger)) = self.debug.take() {
                debug.destroy_debug_utils_messenger(messenger, None);
            }
            self.raw.destroy_instance(None);
        }
    }
}

fn has_extension(entry: &ash::Entry, calls: &Calls, name: &CStr) -> Result<bool, Error> {
    let found = calls.make("vkEnumerateInstanceExtensionProperties", || {
        // SAFETY: no preconditions.
        unsafe { entry.enumerate_instance_extension_properties(None) }
    })?;
    Ok(found.iter().any(|e| e.extension_name_as_c_str() == Ok(name)))
}

fn require_layer(entry: &ash::Entry, calls: &Calls) -> Result<(), Error> {
    // SAFETY: no preconditions.
    let found =
        calls.make("vkEnumerateInstanceLayerProperties", || unsafe { entry.enumerate_instance_layer_properties() })?;
    match found.iter().any(|l| l.layer_name_as_c_str() == Ok(LAYER)) {
        true => Ok(()),
        false => Err(Error::Missing { device: "loader".into(), what: "the validation layers" }),
    }
}

fn messenger_info(messages: &Messages) -> vk::DebugUtilsMessengerCreateInfoEXT<'static> {
    use vk::{DebugUtilsMessageSeverityFlagsEXT as Severity, DebugUtilsMessageTypeFlagsEXT as Kind};
    vk::DebugUtilsMessengerCreateInfoEXT::default()
        .message_severity(Severity::ERROR | Severity::WARNING)
        .message_type(Kind::GENERAL | Kind::VALIDATION | Kind::PERFORMANCE)
        .pfn_user_callback(Some(collect))
        .user_data(Arc::as_ptr(&messages.0).cast_mut().cast())
}

/// Called by the layers with each message.
unsafe extern "system" fn collect(
    _severity: vk::DebugUtilsMessageSeverityFlagsEXT,
    _kind: vk::DebugUtilsMessageTypeFlagsEXT,
    data: *const vk::DebugUtilsMessengerCallbackDataEXT<'_>,
    user: *mut c_void,
) -> vk::Bool32 {
    // SAFETY: the layers pass valid data, and `user` is what `messenger_info` stored, which the instance keeps alive.
    let (text, messages) = unsafe { ((*data).message_as_c_str(), &*user.cast::<Mutex<Vec<String>>>()) };
    let text = text.map_or(String::new(), |text| text.to_string_lossy().into_owned());
    messages.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    vk::FALSE
}
