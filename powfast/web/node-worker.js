import { parentPort } from "node:worker_threads";
import { searcher } from "./searcher.js";

parentPort.on("message", searcher((message) => parentPort.postMessage(message)));
