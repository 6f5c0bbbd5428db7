//! A matrix of weights in any stored type, and its product.
//!
//! Layers do not know the stored type. A quantised matrix is multiplied as it is stored. The product has a gradient,
//! which candle's quantised product silently drops.

use crate::Result;
use crate::epilogue::Epilogue;
use crate::kernel::{self, cut};
use crate::packed::{self, Blocks, Multiplies, Packed};
use crate::product_input::ProductInput;
use crate::quantise::quantise;
use crate::rowwise::{self, Held};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{CpuStorage, CudaStorage, CustomOp1, DType, Device, Error, Layout, Shape, Tensor};
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// About how many values a task quantises, rounded to whole rows.
const TASK: usize = 1 << 18;

/// Reads some consecutive rows of a matrix; errors are the reader's.
pub type RowsOf<'a, T, E> = dyn Fn(Range<usize>) -> Result<Vec<T>, E> + Sync + 'a;

/// Weights (out, in), as in checkpoints. Clones share them.
#[derive(Clone)]
pub struct Matrix {
    form: Form,
}

#[derive(Clone)]
enum Form {
    Dense(Tensor),
    Packed(Arc<dyn Multiplies>),
    Quantised(Arc<QTensor>),
}

impl Matrix {
    /// From values, stored in the fastest order for this device.
    pub fn new(weight: Tensor) -> Result<Matrix> {
        if !packed::suits(&weight) {
            return Matrix::dense(weight);
        }
        Ok(Matrix {
            form: Form::Packed(Arc::new(Packed::new(&weight)?)),
        })
    }

    /// From values, stored as they are; trainable ones stay trainable.
    pub fn dense(weight: Tensor) -> Result<Matrix> {
        weight.dims2()?;
        Ok(Matrix {
            form: Form::Dense(weight),
        })
    }

    /// Whether values of this type are packed, so that [`Matrix::of_rows`] returns a matrix.
    pub fn packs(dtype: DType, device: &Device) -> bool {
        packed::suits_type(dtype, device)
    }

    /// From a reader of rows, packed as this type.
    pub fn of_rows<E: From<Error> + Send>(
        dtype: DType,
        dims: (usize, usize),
        rows: &RowsOf<f32, E>,
    ) -> Result<Matrix, E> {
        let packed = Packed::from_rows(dtype, dims, rows)?;
        Ok(Matrix {
            form: Form::Packed(Arc::new(packed)),
        })
    }

    /// From a reader of rows in blocks, as in a file.
    pub fn of_blocks<E: From<Error> + Send>(
        dtype: GgmlDType,
        dims: (usize, usize),
        rows: &RowsOf<u8, E>,
        device: &Device,
    ) -> Result<Matrix, E> {
        let form = match packed::suits_blocks(dtype, device) {
            true => Form::Packed(Arc::new(Blocks::new(dtype, dims, rows)?)),
            false => {
                let storage = QStorage::from_data(Cow::Owned(rows(0..dims.0)?), device, dtype)?;
                Form::Quantised(Arc::new(QTensor::new(storage, dims)?))
            }
        };
        Ok(Matrix { form })
    }

    /// From blocks in memory.
    pub fn quantised(blocks: QTensor) -> Result<Matrix> {
        let dims = blocks.shape().dims2()?;
        match blocks.dtype() {
            // candle's quantised tensors may hold plain types.
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => Ok(Matrix::new(blocks.dequantize(&blocks.device())?)?),
            dtype if packed::suits_blocks(dtype, &blocks.device()) => {
                let bytes = blocks.data()?;
                let of_row = bytes.len() / dims.0.max(1);
                let rows = |rows: Range<usize>| Ok(bytes[rows.start * of_row..rows.end * of_row].to_vec());
                Matrix::of_blocks(dtype, dims, &rows, &Device::Cpu)
            }
            _ => Ok(Matrix {
                form: Form::Quantised(Arc::new(blocks)),
            }),
        }
    }

    /// Quantises values in main memory to blocks of this type on `device`; see [`Matrix::quantise_rows`].
    pub fn quantise(weight: &Tensor, wanted: GgmlDType, otherwise: DType, device: &Device) -> Result<Matrix> {
        let rows = |rows: Range<usize>| -> Result<Vec<f32>> {
            let part = weight.narrow(0, rows.start, rows.len())?.to_dtype(DType::F32)?;
            part.flatten_all()?.to_vec1::<f32>()
        };
        Matrix::quantise_rows(weight.dims2()?, &rows, wanted, otherwise, device)
    }

    /// Quantises the values of a reader of rows to blocks of this type on `device`. Only a few rows are unquantised at
    /// a time.
    ///
    /// Rows whose length is not a multiple of the type's block are stored as q8_0, whose blocks are the smallest, or
    /// as plain values of the type `otherwise` if even those do not fit.
    pub fn quantise_rows<E: From<Error> + Send>(
        (outputs, inputs): (usize, usize),
        rows: &RowsOf<f32, E>,
        wanted: GgmlDType,
        otherwise: DType,
        device: &Device,
    ) -> Result<Matrix, E> {
        let Some(dtype) = fitting(wanted, inputs) else {
            let values = Tensor::from_vec(rows(0..outputs)?, (outputs, inputs), &Device::Cpu)?;
            return Ok(Matrix::new(values.to_device(device)?.to_dtype(otherwise)?)?);
        };
        let dims = (outputs, inputs);
        if packed::suits_blocks(dtype, device) {
            return Matrix::of_blocks(dtype, dims, &|some| blocks_of(some, rows, dtype), device);
        }
        let bytes = Matrix::blocks(dims, rows, dtype)?;
        let storage = QStorage::from_data(Cow::Owned(bytes), device, dtype)?;
        Ok(Matrix {
            form: Form::Quantised(Arc::new(QTensor::new(storage, dims)?)),
        })
    }

    /// The blocks of the values of a reader of rows, quantised on all cores, in place.
    pub fn blocks<E: From<Error> + Send>(
        (outputs, inputs): (usize, usize),
        rows: &RowsOf<f32, E>,
        dtype: GgmlDType,
    ) -> Result<Vec<u8>, E> {
        let of_row = inputs / dtype.block_size() * dtype.type_size();
        let some = (TASK / inputs.max(1)).max(1);
        let mut bytes = vec![0; outputs * of_row];
        let parts = bytes.par_chunks_mut((some * of_row).max(1)).enumerate();
        parts.try_for_each(|(number, bytes)| {
            let first = number * some;
            bytes.copy_from_slice(&blocks_of(first..outputs.min(first + some), rows, dtype)?);
            Ok::<_, E>(())
        })?;
        Ok(bytes)
    }

    /// Outputs and inputs.
    pub fn dims(&self) -> (usize, usize) {
        let shape = match &self.form {
            Form::Packed(weight) => return weight.dims(),
            Form::Dense(weight) => weight.shape(),
            Form::Quantised(blocks) => blocks.shape(),
        };
        shape.dims2().unwrap_or_default() // all constructors check for two dimensions
    }

    /// `x W^T`: (…, in) to (…, out).
    pub fn product(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.dims();
        let mut dims = x.dims().to_vec();
        let rows = x.elem_count() / inputs.max(1);
        let x = x.reshape((rows, inputs))?;
        let y = match &self.form {
            Form::Dense(weight) if kernel::suits(&x, weight) => kernel::by_dots(&x, weight)?,
            Form::Dense(weight) if weight.dtype() == x.dtype() => x.matmul(&weight.t()?)?,
            Form::Dense(weight) => {
                let stored = x.to_dtype(weight.dtype())?;
                stored.matmul(&weight.t()?)?.to_dtype(x.dtype())?
            }
            Form::Packed(weight) => {
                let wide = x.to_dtype(DType::F32)?.contiguous()?;
                wide.apply_op1(packed::Product(weight.clone()))?.to_dtype(x.dtype())?
            }
            Form::Quantised(blocks) => {
                // candle's product supports bf16 only on a GPU.
                let known = match x.device().is_cpu() {
                    true => x.to_dtype(DType::F32)?,
                    false => x.clone(),
                };
                let y = known.contiguous()?.apply_op1(Product(blocks.clone()))?;
                y.to_dtype(x.dtype())?
            }
        };
        if let Some(last) = dims.last_mut() {
            *last = outputs;
        }
        y.reshape(dims)
    }

    /// The products of several matrices with the same number of inputs: faster together than one by one.
    pub fn products(matrices: &[&Matrix], x: &Tensor) -> Result<Vec<Tensor>> {
        let inputs = x.dims().last().copied().unwrap_or(0);
        let packed: Vec<&dyn Multiplies> = matrices
            .iter()
            .filter_map(|matrix| match &matrix.form {
                Form::Packed(weight) if weight.dims().1 == inputs => Some(&**weight),
                _ => None,
            })
            .collect();
        if packed.len() < matrices.len() || !rowwise::suits(&[x]) {
            return matrices.iter().map(|matrix| matrix.product(x)).collect();
        }
        let x = x.contiguous()?;
        let made = packed::products(&packed, Held::of(&x).all()?);
        let mut dims = x.dims().to_vec();
        let tensor = |(y, weight): (Vec<f32>, &dyn Multiplies)| {
            if let Some(last) = dims.last_mut() {
                *last = weight.dims().0;
            }
            Tensor::from_vec(y, &dims[..], &Device::Cpu)
        };
        made.into_iter().zip(packed).map(tensor).collect()
    }

    /// Products of rows (rows, in) with several matrices, each with its bias and epilogue, in place. None if these
    /// loops cannot do it, such as when gradients are needed.
    pub fn products_then(
        matrices: &[(&Matrix, Option<&Tensor>)],
        x: ProductInput,
        after: Epilogue,
    ) -> Result<Option<Vec<Tensor>>> {
        let Some(weights) = Matrix::packed(matrices, x, after) else {
            return Ok(None);
        };
        let rows = x.rows();
        let products: Vec<_> = matrices.iter().map(|(matrix, bias)| (matrix.dims().0, *bias)).collect();
        let Some(read) = x.read(&weights)? else {
            return Ok(None);
        };
        let made = after.finishing(rows, &products, |finish| {
            packed::products_of_read(&weights, &read, rows, finish)
        })?;
        let tensor = |(y, (columns, _))| Tensor::from_vec(y, (rows, columns), &Device::Cpu);
        made.into_iter()
            .zip(products)
            .map(tensor)
            .collect::<Result<_>>()
            .map(Some)
    }

    /// Two layers in sequence for rows (rows, in), as [`Matrix::products_then`], without storing the matrix in
    /// between: the first writes the input of the second's kernels.
    pub fn two_products_then(
        [first, second]: [(&Matrix, Option<&Tensor>); 2],
        x: ProductInput,
        [between, after]: [Epilogue; 2],
    ) -> Result<Option<Tensor>> {
        let (Some(one), Some(other)) = (Matrix::packed(&[first], x, between), second.0.as_packed()) else {
            return Ok(None);
        };
        if !after.suits(second.1) || one[0].dims().0 != other.dims().1 {
            return Ok(None);
        }
        let rows = x.rows();
        let Some(read) = x.read(&one)? else {
            return Ok(None);
        };
        let product = |(matrix, bias): (&Matrix, _)| [(matrix.dims().0, bias)];
        let between = between.finishing(rows, &product(first), |finish| {
            packed::product_to_read(one[0], &read, rows, finish, other.reads())
        })?;
        let Some(between) = between else {
            return Ok(None);
        };
        let made = after.finishing(rows, &product(second), |finish| {
            packed::products_of_read(&[other], &between, rows, finish)
        })?;
        let y = made.into_iter().next().unwrap_or_default();
        Tensor::from_vec(y, (rows, other.dims().0), &Device::Cpu).map(Some)
    }

    fn as_packed(&self) -> Option<&dyn Multiplies> {
        match &self.form {
            Form::Packed(weight) => Some(&**weight),
            _ => None,
        }
    }

    /// The packed weights of all of these, if this crate's loops can compute their products with x and the epilogues.
    fn packed<'a>(
        matrices: &[(&'a Matrix, Option<&Tensor>)],
        x: ProductInput,
        after: Epilogue,
    ) -> Option<Vec<&'a dyn Multiplies>> {
        let known = x.suits() && matrices.iter().all(|(_, bias)| after.suits(*bias));
        let fits = |weight: &&dyn Multiplies| weight.dims().1 == x.inputs();
        let packed = |(matrix, _): &(&'a Matrix, _)| matrix.as_packed().filter(fits);
        matrices.iter().map(packed).collect::<Option<_>>().filter(|_| known)
    }

    /// Looks up rows by these ids, as in a table of tokens, in the given type.
    pub fn rows(&self, ids: &Tensor, dtype: DType) -> Result<Tensor> {
        match &self.form {
            Form::Dense(weight) => weight.index_select(ids, 0)?.to_dtype(dtype),
            Form::Packed(weight) => weight.rows(&ids.to_vec1()?)?.to_dtype(dtype),
            Form::Quantised(blocks) => blocks.embedding(ids)?.to_dtype(dtype),
        }
    }

    /// All values as a tensor (out, in): a copy, unless they are stored this way.
    pub fn values(&self) -> Result<Tensor> {
        match &self.form {
            Form::Dense(weight) => Ok(weight.clone()),
            Form::Packed(weight) => weight.values(),
            Form::Quantised(blocks) => blocks.dequantize(&blocks.device()),
        }
    }

    /// The stored type, as settings spell it.
    pub fn stored_as(&self) -> &'static str {
        match &self.form {
            Form::Dense(weight) => crate::precision::dense_name(weight.dtype()),
            Form::Packed(weight) => weight.stored_as(),
            Form::Quantised(blocks) => crate::precision::block_name(blocks.dtype()),
        }
    }

    /// The memory of the values.
    pub fn bytes(&self) -> usize {
        match &self.form {
            Form::Dense(weight) => weight.elem_count() * weight.dtype().size_in_bytes(),
            Form::Packed(weight) => weight.bytes(),
            Form::Quantised(blocks) => blocks.storage_size_in_bytes(),
        }
    }
}

fn blocks_of<E: From<Error>>(some: Range<usize>, rows: &RowsOf<f32, E>, dtype: GgmlDType) -> Result<Vec<u8>, E> {
    Ok(quantise(&rows(some)?, dtype)?)
}

/// The block type of rows with this many inputs if `wanted` is asked for; none if no blocks fit.
pub fn fitting(wanted: GgmlDType, inputs: usize) -> Option<GgmlDType> {
    let fits = |dtype: &GgmlDType| inputs.is_multiple_of(dtype.block_size());
    [wanted, GgmlDType::Q8_0].into_iter().find(fits)
}

/// candle's product with quantised weights, with the gradient that it lacks.
struct Product(Arc<QTensor>);

impl CustomOp1 for Product {
    fn name(&self) -> &'static str {
        "quantised-product"
    }

    /// candle sums a single row in another order than several, so a single one is passed as two.
    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = layout.shape().dims2()?;
        let alike = cfg!(target_arch = "x86_64") && self.0.dtype() != GgmlDType::Q6K;
        let (CpuStorage::F32(values), 1, false) = (x, rows, alike) else {
            return self.0.cpu_fwd(x, layout);
        };
        let row = cut(values, layout)?;
        let two = CpuStorage::F32([row, row].concat());
        let (y, _) = self.0.cpu_fwd(&two, &Layout::contiguous((2, inputs)))?;
        let outputs = self.0.shape().dims2()?.0;
        match y {
            CpuStorage::F32(mut y) => {
                y.truncate(outputs);
                Ok((CpuStorage::F32(y), (1, outputs).into()))
            }
            _ => candle_core::bail!("a quantised product needs fp32"),
        }
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.0.cuda_fwd(x, layout)
    }

    /// The gradient uses the stored weights; they are not trained.
    fn bwd(&self, x: &Tensor, _y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let weight = self.0.dequantize(x.device())?.to_dtype(gradient.dtype())?;
        Ok(Some(gradient.matmul(&weight)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::elsewhere;
    use candle_core::Var;

    fn quantised(weight: &Tensor, dtype: GgmlDType) -> Matrix {
        Matrix::quantise(weight, dtype, DType::F32, &Device::Cpu).unwrap()
    }

    /// Values near a normal distribution, the same in every run: the bounds below are tight.
    fn random(shape: (usize, usize)) -> Tensor {
        let mut state = (shape.0 * 1_000_003 + shape.1) as u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let values: Vec<f32> = (0..shape.0 * shape.1)
            .map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0)
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn off(a: &Tensor, b: &Tensor) -> f32 {
        let square = |t: &Tensor| t.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
        (square(&(a - b).unwrap()) / square(b)).sqrt()
    }

    /// Errors of weights and products against fp32, relative to their size; both are root mean squares.
    #[track_caller]
    fn check(dtype: GgmlDType, inputs: usize, stored_as: &str, weights: f32, products: f32) {
        check_here(dtype, inputs, stored_as, weights, products);
        let _elsewhere = elsewhere();
        check_here(dtype, inputs, stored_as, weights, products);
    }

    #[track_caller]
    fn check_here(dtype: GgmlDType, inputs: usize, stored_as: &str, weights: f32, products: f32) {
        let weight = random((130, inputs));
        let matrix = quantised(&weight, dtype);
        assert_eq!(matrix.stored_as(), stored_as);
        assert_eq!(matrix.dims(), (130, inputs));
        let apart = off(&matrix.values().unwrap(), &weight);
        assert!(apart <= weights, "{dtype:?} {inputs}: weights are off by {apart}");
        for rows in [1, 3, 70] {
            let x = random((rows, inputs));
            let exact = x.matmul(&weight.t().unwrap()).unwrap();
            let got = matrix.product(&x).unwrap();
            assert_eq!(got.dims(), [rows, 130]);
            let apart = off(&got, &exact);
            assert!(apart <= products, "{dtype:?} {rows} x {inputs}: off by {apart}");
        }
    }

    #[test]
    fn products_are_close_to_fp32_by_a_bound() {
        check(GgmlDType::Q8_0, 512, "q8_0", 0.006, 0.01);
        check(GgmlDType::Q6K, 512, "q6_k", 0.02, 0.03);
        check(GgmlDType::Q4K, 512, "q4_k", 0.09, 0.1);
        check(GgmlDType::Q5K, 256, "q5_k", 0.05, 0.06);
        check(GgmlDType::Q5_1, 512, "q5_1", 0.05, 0.06);
        check(GgmlDType::Q5_0, 512, "q5_0", 0.05, 0.06);
        check(GgmlDType::Q4_1, 512, "q4_1", 0.1, 0.11);
        check(GgmlDType::Q4_0, 512, "q4_0", 0.1, 0.11);
        // Enough values for several tasks.
        check(GgmlDType::Q8_0, 2560, "q8_0", 0.006, 0.01);
        check(GgmlDType::Q4K, 2560, "q4_k", 0.09, 0.1);
    }

    /// The same blocks with this crate's kernels and with candle's product, which rounds inputs differently.
    #[test]
    fn packed_blocks_are_multiplied_as_candle_does() {
        use GgmlDType::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
        for dtype in [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q5K, Q6K] {
            let blocks = QTensor::quantize(&random((70, 512)), dtype).unwrap();
            let x = random((9, 512));
            let theirs = x.apply_op1(Product(Arc::new(QTensor::quantize(&random((70, 512)), dtype).unwrap())));
            let apart = off(
                &Matrix::quantised(blocks).unwrap().product(&x).unwrap(),
                &theirs.unwrap(),
            );
            assert!(apart < 0.011, "{dtype:?}: off by {apart}");
        }
    }

    #[test]
    fn rows_that_blocks_do_not_divide_are_stored_more_exactly() {
        check(GgmlDType::Q4K, 96, "q8_0", 0.006, 0.01);
        check(GgmlDType::Q4K, 40, "fp32", 0.0, 1e-6);
        check(GgmlDType::Q8_0, 31, "fp32", 0.0, 1e-6);
    }

    #[test]
    fn products_made_together_are_those_of_each() {
        let narrow = |shape| Matrix::new(random(shape).to_dtype(DType::BF16).unwrap()).unwrap();
        let quantised = |shape, dtype| quantised(&random(shape), dtype);
        let alike = [narrow((70, 256)), narrow((33, 256)), narrow((1, 256))];
        let blocks = [GgmlDType::Q4K, GgmlDType::Q6K, GgmlDType::Q8_0].map(|dtype| quantised((50, 256), dtype));
        let mixed = [
            narrow((20, 256)),
            Matrix::new(random((40, 256))).unwrap(),
            quantised((7, 256), GgmlDType::Q8_0),
        ];
        for matrices in [alike, blocks, mixed] {
            for shape in [(1, 256), (3, 256), (40, 256)] {
                let x = random(shape).reshape((1, shape.0, 256)).unwrap();
                let together = Matrix::products(&matrices.each_ref(), &x).unwrap();
                for (matrix, together) in matrices.iter().zip(together) {
                    let alone = matrix.product(&x).unwrap();
                    assert_eq!(together.dims(), alone.dims());
                    assert_eq!(together.to_vec3::<f32>().unwrap(), alone.to_vec3::<f32>().unwrap());
                }
            }
        }
    }

    #[test]
    fn any_number_of_dimensions_stands_before_the_last() {
        let matrix = quantised(&random((5, 64)), GgmlDType::Q8_0);
        let x = random((6, 64));
        let flat = matrix.product(&x).unwrap().flatten_all().unwrap();
        let cube = matrix.product(&x.reshape((2, 3, 64)).unwrap()).unwrap();
        assert_eq!(cube.dims(), [2, 3, 5]);
        assert_eq!(
            cube.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            flat.to_vec1::<f32>().unwrap()
        );
    }

    /// On a GPU all is computed in bf16, whatever the stored type.
    #[test]
    fn products_take_and_give_the_type_that_is_computed_in() {
        let _elsewhere = elsewhere();
        let (weight, x) = (random((24, 256)), random((3, 256)));
        let exact = x.matmul(&weight.t().unwrap()).unwrap();
        let narrow = |t: &Tensor| t.to_dtype(DType::BF16).unwrap();
        for matrix in [
            Matrix::new(narrow(&weight)).unwrap(),
            Matrix::new(weight.clone()).unwrap(),
            quantised(&weight, GgmlDType::Q8_0),
            quantised(&weight, GgmlDType::Q6K),
        ] {
            let got = matrix.product(&narrow(&x)).unwrap();
            assert_eq!(got.dtype(), DType::BF16);
            let apart = off(&got.to_dtype(DType::F32).unwrap(), &exact);
            assert!(apart < 0.03, "{}: off by {apart}", matrix.stored_as());
        }
    }

    #[test]
    fn looking_up_rows_is_the_values_own() {
        let ids = Tensor::new(&[3u32, 0, 3], &Device::Cpu).unwrap();
        for matrix in [
            quantised(&random((5, 64)), GgmlDType::Q8_0),
            Matrix::dense(random((5, 64))).unwrap(),
            Matrix::new(random((5, 64))).unwrap(),
        ] {
            let expected = matrix.values().unwrap().index_select(&ids, 0).unwrap();
            let got = matrix.rows(&ids, DType::F32).unwrap();
            assert_eq!(got.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
        }
    }

    #[test]
    fn a_gradient_goes_through_whatever_weights_are_stored_as() {
        let narrow = random((24, 256)).to_dtype(DType::BF16).unwrap();
        for matrix in [
            quantised(&random((24, 256)), GgmlDType::Q8_0),
            quantised(&random((24, 256)), GgmlDType::Q4K),
            Matrix::new(random((24, 256))).unwrap(),
            Matrix::new(narrow).unwrap(),
            Matrix::dense(random((24, 256))).unwrap(),
        ] {
            let x = Var::from_tensor(&random((3, 256))).unwrap();
            let pull = random((3, 24));
            let loss = |y: Tensor| (y * &pull).unwrap().sum_all().unwrap();
            let gradient = |y: Tensor| loss(y).backward().unwrap().get(&x).unwrap().clone();
            let got = gradient(matrix.product(&x).unwrap());
            let expected = gradient(x.matmul(&matrix.values().unwrap().t().unwrap()).unwrap());
            assert!(off(&got, &expected) < 1e-5, "{}", matrix.stored_as());
        }
    }
}
