//! Where a model computes: the setting `device`, and all code that knows CUDA.
//!
//! The decision a newcomer would question: no model asks which device it is on. The kernels of this crate work on main
//! memory, and each asks [`own_kernels`] before it runs. On other devices, candle's operations are used. With
//! [`elsewhere`], tests take that path without a GPU.

use candle_core::{Device, DeviceLocation};
use plugin_api::{Code, Error, Level, Result, Settings, log};
use std::cell::Cell;

/// The requested device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Auto,
    Cpu,
    /// The GPU with this number, among those that the driver shows to this process.
    Cuda(usize),
}

impl Wanted {
    fn parse(text: &str) -> Result<Wanted> {
        let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        match (text, number) {
            ("auto", _) => Ok(Wanted::Auto),
            ("cpu", _) => Ok(Wanted::Cpu),
            ("cuda", _) => Ok(Wanted::Cuda(0)),
            (_, Some(number)) => Ok(Wanted::Cuda(number)),
            _ => {
                let message = format!("setting `device` is `{text}`, expected auto, cpu, cuda or cuda:NUMBER");
                Err(Error::new(Code::SETTINGS, message))
            }
        }
    }
}

/// The setting `device`: `cpu`, `cuda`, `cuda:1` for the second GPU, or `auto`, which is a GPU if this build can use
/// one.
pub fn from_settings(settings: &Settings) -> Result<Device> {
    let wanted = Wanted::parse(&settings.or("device", "auto".to_owned())?)?;
    let device = match wanted {
        Wanted::Cpu => Device::Cpu,
        Wanted::Cuda(number) => gpu::open(number)?,
        Wanted::Auto => gpu::open(0).unwrap_or_else(|why| {
            if cfg!(feature = "cuda") {
                log(Level::Info, &format!("computing on the CPU: {}", why.message));
            }
            Device::Cpu
        }),
    };
    if let Some(card) = gpu::describe(&device) {
        log(Level::Info, &format!("computing on {}, {card}", name(&device)));
    }
    Ok(device)
}

/// The device as the setting spells it.
pub fn name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "cpu".to_owned(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// Whether this crate's kernels, which are for processors, may work on this device.
pub fn own_kernels(device: &Device) -> bool {
    device.is_cpu() && !ELSEWHERE.get()
}

/// Runs `work` on one of the threads of this crate's kernels, if they work on this device. Another thread would sleep
/// before each of hundreds of products, and be woken after it.
pub fn among_workers<T: Send>(device: &Device, work: impl FnOnce() -> T + Send) -> T {
    match own_kernels(device) {
        true => rayon::scope(|_| work()),
        false => work(),
    }
}

thread_local! {
    static ELSEWHERE: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, this thread takes the path for GPUs on any device, for tests of that path.
#[must_use]
pub struct Elsewhere {
    before: bool,
}

/// Disables this crate's kernels on this thread until the returned value is dropped. Weights that were loaded before
/// keep their form.
pub fn elsewhere() -> Elsewhere {
    Elsewhere {
        before: ELSEWHERE.replace(true),
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        ELSEWHERE.set(self.before);
    }
}

/// Whether the device multiplies bf16. GPUs before NVIDIA's Ampere do not.
pub fn has_bf16(device: &Device) -> bool {
    gpu::capability(device).is_none_or(|capability| capability >= (8, 0))
}

/// Free bytes on a GPU; none on a processor, or if the driver does not say.
pub fn free_bytes(device: &Device) -> Option<u64> {
    gpu::memory(device).map(|(free, _)| free)
}

/// Waits until the device has finished all work. Threads have separate queues on a GPU, so each caller waits before
/// the next one starts. Earlier failures show up here.
pub fn settle(device: &Device) {
    let _ = device.synchronize();
}

pub fn in_words(bytes: u64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.1} GB", bytes as f64 / 1e9),
        1_000_000.. => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.0} kB", bytes as f64 / 1e3),
    }
}

#[cfg(not(feature = "cuda"))]
mod gpu {
    use super::*;

    pub fn open(number: usize) -> Result<Device> {
        let message = format!("setting `device` asks for GPU {number}, but this plugin was built without CUDA");
        Err(Error::new(Code::SETTINGS, message).help("build it with `cargo build --release --features cuda`"))
    }

    pub fn describe(_: &Device) -> Option<String> {
        None
    }

    pub fn capability(_: &Device) -> Option<(i32, i32)> {
        None
    }

    pub fn memory(_: &Device) -> Option<(u64, u64)> {
        None
    }
}

#[cfg(feature = "cuda")]
mod gpu {
    use super::*;
    use candle_core::Tensor;
    use candle_core::cuda_backend::cudarc::driver::CudaContext;
    use std::sync::Arc;

    /// Opens the GPU with this number and checks that it can compute.
    pub fn open(number: usize) -> Result<Device> {
        let missing = |message: String| Error::new(Code::MISSING, message);
        let count = CudaContext::device_count().map_err(|why| {
            missing("no GPU can be used: NVIDIA's driver does not start".to_owned())
                .cause(why.to_string())
                .help("does `nvidia-smi` list a GPU? The driver must be 580 or newer for CUDA 13")
        })?;
        if usize::try_from(count).is_ok_and(|count| number >= count) {
            let message = format!("there is no GPU {number}: the driver shows {count}, counted from 0");
            return Err(missing(message).help("`CUDA_VISIBLE_DEVICES` says which of them a process may see"));
        }
        let tried = Device::new_cuda(number).and_then(|device| {
            // Kernels are compiled for one kind of GPU; the first one that runs shows whether this is it.
            let two = (Tensor::ones(4, candle_core::DType::F32, &device)? * 2.0)?.to_vec1::<f32>()?;
            match two == [2.0; 4] {
                true => Ok(device),
                false => candle_core::bail!("it computed {two:?}, expected twos"),
            }
        });
        tried.map_err(|why| {
            missing(format!("GPU {number} cannot be used"))
                .cause(why.to_string())
                .help("was the plugin built for this card? Rebuild it with its compute capability: `CUDA_COMPUTE_CAP=80` for 8.0")
        })
    }

    fn context(device: &Device) -> Option<Arc<CudaContext>> {
        device
            .as_cuda_device()
            .ok()
            .map(|it| it.cuda_stream().context().clone())
    }

    pub fn describe(device: &Device) -> Option<String> {
        let name = context(device)?.name().ok()?;
        let (free, total) = memory(device)?;
        Some(format!("{name}, {} of {} free", in_words(free), in_words(total)))
    }

    pub fn capability(device: &Device) -> Option<(i32, i32)> {
        context(device)?.compute_capability().ok()
    }

    pub fn memory(device: &Device) -> Option<(u64, u64)> {
        let (free, total) = context(device)?.mem_get_info().ok()?;
        Some((free as u64, total as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Wanted) {
        assert_eq!(Wanted::parse(text).unwrap(), expected);
    }

    #[test]
    fn a_setting_names_a_device() {
        check("auto", Wanted::Auto);
        check("cpu", Wanted::Cpu);
        check("cuda", Wanted::Cuda(0));
        check("cuda:3", Wanted::Cuda(3));
        for wrong in ["gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", ""] {
            let error = Wanted::parse(wrong).unwrap_err();
            assert_eq!(error.code, Code::SETTINGS);
            assert!(
                error.message.contains(&format!("is `{wrong}`, expected auto")),
                "{error}"
            );
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_build_without_cuda_computes_on_the_processor_and_says_what_a_gpu_needs() {
        let settle = |device: &str| {
            let settings = serde_json::json!({ "device": device });
            from_settings(&serde_json::from_value(settings).unwrap())
        };
        assert_eq!(name(&settle("auto").unwrap()), "cpu");
        let error = settle("cuda:1").unwrap_err();
        assert!(
            error.message.contains("GPU 1") && error.message.contains("without CUDA"),
            "{error}"
        );
        assert!(error.help.unwrap().contains("--features cuda"));
    }

    #[test]
    fn the_other_way_ends_where_it_is_left() {
        assert!(own_kernels(&Device::Cpu));
        {
            let _outer = elsewhere();
            drop(elsewhere());
            assert!(!own_kernels(&Device::Cpu));
        }
        assert!(own_kernels(&Device::Cpu));
    }
}
