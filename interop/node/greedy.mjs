// Continues token ids greedily with node-llama-cpp, with a GGUF LoRA adapter if one
// is named; prints the new ids. Run in the folder whose node_modules has it.
//
//   node greedy.mjs MODEL.gguf ADAPTER.gguf|- '[1,2,3]' COUNT
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modelPath, lora, ids, count] = process.argv.slice(2);
const peer = await import(pathToFileURL(join(process.cwd(), "node_modules/node-llama-cpp/dist/index.js")));
const llama = await peer.getLlama({ gpu: false, build: "never", progressLogs: false, maxThreads: 1 });
const model = await llama.loadModel({ modelPath });
// One thread: the spin barrier of several is slow on a busy machine.
const context = await model.createContext({ contextSize: 256, threads: 1, ...(lora === "-" ? {} : { lora }) });
const out = [];
for await (const token of context.getSequence().evaluate(JSON.parse(ids), { temperature: 0, yieldEogToken: true })) {
    out.push(token);
    if (out.length >= Number(count)) break;
}
console.log(JSON.stringify(out));
process.exit(0);
