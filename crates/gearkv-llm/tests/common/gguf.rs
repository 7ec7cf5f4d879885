//! Writes GGUF files.

pub enum Meta {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
}

pub struct TensorData {
    pub name: String,
    /// The first is contiguous.
    pub dims: Vec<u64>,
    pub kind: u32,
    pub bytes: Vec<u8>,
}

impl TensorData {
    pub fn f32(name: &str, dims: &[usize], values: &[f32]) -> Self {
        assert_eq!(dims.iter().product::<usize>(), values.len(), "{name}");
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Self { name: name.into(), dims: dims.iter().map(|&n| n as u64).collect(), kind: 0, bytes }
    }

    /// Q8_0: blocks of 32 signed codes under a float16 scale.
    pub fn q8_0(name: &str, dims: &[usize], values: &[f32]) -> Self {
        let mut bytes = Vec::new();
        for block in values.chunks_exact(32) {
            let most = block.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let scale = half::f16::from_f32(most / 127.0);
            bytes.extend(scale.to_le_bytes());
            bytes.extend(block.iter().map(|x| (x / scale.to_f32()).round().clamp(-127.0, 127.0) as i8 as u8));
        }
        Self { name: name.into(), dims: dims.iter().map(|&n| n as u64).collect(), kind: 8, bytes }
    }
}

#[derive(Default)]
pub struct File {
    pub metadata: Vec<(String, Meta)>,
    pub tensors: Vec<TensorData>,
}

fn text(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

impl File {
    pub fn set(&mut self, key: &str, value: Meta) {
        self.metadata.retain(|(k, _)| k != key);
        self.metadata.push((key.into(), value));
    }

    pub fn tensor_mut(&mut self, name: &str) -> &mut TensorData {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            text(&mut out, key);
            value.write(&mut out);
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            text(&mut out, &tensor.name);
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset = (offset + tensor.bytes.len() as u64).next_multiple_of(32);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&tensor.bytes);
        }
        out
    }
}

impl Meta {
    fn write(&self, out: &mut Vec<u8>) {
        fn array(out: &mut Vec<u8>, kind: u32, n: usize) {
            out.extend(9u32.to_le_bytes());
            out.extend(kind.to_le_bytes());
            out.extend((n as u64).to_le_bytes());
        }
        match self {
            Self::U32(x) => {
                out.extend(4u32.to_le_bytes());
                out.extend(x.to_le_bytes());
            }
            Self::F32(x) => {
                out.extend(6u32.to_le_bytes());
                out.extend(x.to_le_bytes());
            }
            Self::Bool(x) => {
                out.extend(7u32.to_le_bytes());
                out.push(u8::from(*x));
            }
            Self::Text(x) => {
                out.extend(8u32.to_le_bytes());
                text(out, x);
            }
            Self::Texts(all) => {
                array(out, 8, all.len());
                all.iter().for_each(|x| text(out, x));
            }
            Self::I32s(all) => {
                array(out, 5, all.len());
                all.iter().for_each(|x| out.extend(x.to_le_bytes()));
            }
            Self::F32s(all) => {
                array(out, 6, all.len());
                all.iter().for_each(|x| out.extend(x.to_le_bytes()));
            }
        }
    }
}
