//! Compares four-bit weights and eight-bit states with recordings.

use super::tensors::Tensors;
use super::{largest, relative};
use crate::engine::parameters::Parameters;
use crate::nf4::{bytes_table, quantise};
use crate::optim::{Optim, State};
use crate::{OptimSettings, Optimiser};
use checkpoint::nf4::{CODES, Nf4, Scales};
use plugin_api::Result;
use serde_json::{Value, json};
use std::path::Path;

/// The share of scale codes that may be off by one.
const CODES_OFF: f64 = 0.005;
const VALUES_OFF: f64 = 1e-6;

pub(super) fn replay(path: &Path) -> Result<Vec<Value>> {
    let golden = Tensors::open(path)?;
    let mut findings = vec![tables(&golden)?];
    for name in golden.names() {
        if let Some(matrix) = name.strip_suffix(".packed") {
            findings.push(matrix_of(&golden, matrix)?);
        }
    }
    if golden.names().iter().any(|name| name == "adam8.start") {
        findings.push(adam(&golden)?);
    }
    findings.sort_by_key(|finding| finding["case"].to_string());
    Ok(findings)
}

fn told(case: &str, differences: Value, tolerances: Value, within: Value) -> Value {
    let ok = within
        .as_object()
        .is_some_and(|all| all.values().all(|one| one == &json!(true)));
    json!({ "case": case, "differences": differences, "tolerances": tolerances, "within": within, "ok": ok })
}

fn tables(golden: &Tensors) -> Result<Value> {
    let code = golden.floats("code")? == CODES;
    let signed = golden.floats("dynamic_signed")? == bytes_table(true);
    let unsigned = golden.floats("dynamic_unsigned")? == bytes_table(false);
    let within = json!({ "code": code, "dynamic_signed": signed, "dynamic_unsigned": unsigned });
    Ok(told("nf4.tables", json!({}), json!({}), within))
}

fn matrix_of(golden: &Tensors, name: &str) -> Result<Value> {
    let weights = golden.floats(&format!("{name}.weight"))?;
    let read = |start: usize, out: &mut [f32]| out.copy_from_slice(&weights[start..start + out.len()]);
    let (single, double) = (
        quantise(weights.len(), false, read),
        quantise(weights.len(), true, read),
    );
    let bytes: Vec<f64> = single.bytes.iter().map(|&byte| f64::from(byte)).collect();
    let packed = bytes == golden.values(&format!("{name}.packed"))? && single.bytes == double.bytes;
    let absmax = match &single.scales {
        Scales::Plain(scales) => *scales == golden.floats(&format!("{name}.absmax"))?,
        Scales::Double { .. } => false,
    };
    let mut codes_off = 1.0;
    let mut steps_off = f64::INFINITY;
    if let Scales::Double { codes, .. } = &double.scales {
        let recorded = golden.values(&format!("{name}.double.absmax_codes"))?;
        let off: Vec<f64> = codes
            .iter()
            .zip(&recorded)
            .map(|(x, y)| (f64::from(*x) - y).abs())
            .collect();
        codes_off = off.iter().filter(|off| **off > 0.0).count() as f64 / off.len().max(1) as f64;
        steps_off = largest(off.into_iter());
    }
    let back = |four: &Nf4, kind: &str| -> Result<f64> {
        let mut values = vec![0.0; weights.len()];
        four.read(0..weights.len(), &mut values);
        let recorded = golden.values(&format!("{name}.{kind}.dequantised"))?;
        Ok(largest(
            values.iter().zip(&recorded).map(|(x, y)| (f64::from(*x) - y).abs()),
        ))
    };
    let (plain, doubly) = (back(&single, "single")?, back(&double, "double")?);
    // If a scale's code is off by one, so are the values of its block.
    let doubly_ok = doubly <= VALUES_OFF || (codes_off > 0.0 && codes_off <= CODES_OFF);
    Ok(told(
        &format!("nf4.{name}"),
        json!({ "scale_codes_off": codes_off, "dequantised": plain, "dequantised_double": doubly }),
        json!({ "scale_codes_off": CODES_OFF, "dequantised": VALUES_OFF, "dequantised_double": VALUES_OFF }),
        json!({
            "packed": packed, "absmax": absmax, "scale_codes_off": codes_off <= CODES_OFF && steps_off <= 1.0,
            "dequantised": plain <= VALUES_OFF, "dequantised_double": doubly_ok,
        }),
    ))
}

/// Steps of AdamW with states in bytes.
fn adam(golden: &Tensors) -> Result<Value> {
    let start = golden.floats("adam8.start")?;
    let gradients = golden.floats("adam8.gradients")?;
    let count = start.len();
    let steps = golden.shape("adam8.gradients")?.first().copied().unwrap_or(0);
    let mut parameters = Parameters::default();
    parameters.add("weight".to_owned(), &[count], start)?;
    let settings = OptimSettings {
        optim: Optimiser::AdamW8Bit,
        weight_decay: 0.01,
        max_grad_norm: 0.0,
        ..OptimSettings::default()
    };
    let mut optim = Optim::new(&settings, &parameters, false);
    let mut off = 0f64;
    for step in 0..steps {
        optim.step(&mut parameters, &gradients[step * count..][..count], 1e-2, true);
        let recorded = golden.values(&format!("adam8.after{}", step + 1))?;
        off = off.max(largest(
            parameters
                .values
                .iter()
                .zip(&recorded)
                .map(|(x, y)| (f64::from(*x) - y).abs()),
        ));
    }
    let (mut codes_off, mut absmax) = (1.0, f64::INFINITY);
    if let Some(State::Bytes(states)) = optim.states.first() {
        let mut different = 0;
        for (ours, name) in [(&states.first, "first"), (&states.second, "second")] {
            let recorded = golden.values(&format!("adam8.{name}_codes"))?;
            different += ours
                .iter()
                .zip(&recorded)
                .filter(|(x, y)| f64::from(**x) != **y)
                .count();
        }
        codes_off = different as f64 / (2 * count) as f64;
        let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        absmax = relative(&wide(&states.first_absmax), &golden.values("adam8.first_absmax")?).max(relative(
            &wide(&states.second_absmax),
            &golden.values("adam8.second_absmax")?,
        ));
    }
    // A state halfway between two codes may take either; the weight then moves by a part of the rate.
    Ok(told(
        "adam8",
        json!({ "weights": off, "codes_off": codes_off, "absmax": absmax }),
        json!({ "weights": 1e-3, "codes_off": CODES_OFF, "absmax": 1e-5 }),
        json!({ "weights": off <= 1e-3, "codes_off": codes_off <= CODES_OFF, "absmax": absmax <= 1e-5 }),
    ))
}
