// Reads a GGUF file with node-llama-cpp's own parser; prints its architecture and
// the sorted names of its tensors. Run in the folder whose node_modules has it.
//
//   node read.mjs FILE.gguf
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const peer = await import(pathToFileURL(join(process.cwd(), "node_modules/node-llama-cpp/dist/index.js")));
const info = await peer.readGgufFileInfo(process.argv[2], { sourceType: "filesystem" });
console.log(JSON.stringify({
    architecture: info.metadata.general.architecture,
    tensors: info.fullTensorInfo.map((t) => t.name).sort(),
}));
