// Runs an ONNX file in the ONNX Runtime of browsers: node run.mjs MODEL INPUT DTYPE SIDE...
// INPUT holds the raw values of the tensor "images". The values of "scores" are printed as JSON.
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

const [model, input, dtype, ...shape] = process.argv.slice(2);
const bytes = new Uint8Array(readFileSync(input));
const values = dtype === "uint8" ? bytes : new Float32Array(bytes.buffer);
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(model)), { executionProviders: ["wasm"] });
const { scores } = await session.run({ images: new ort.Tensor(dtype, values, shape.map(Number)) });
console.log(JSON.stringify(Array.from(scores.data)));
