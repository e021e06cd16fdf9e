import { searcher } from "./searcher.js";

const receive = searcher((message) => self.postMessage(message));
self.onmessage = ({ data }) => receive(data);
