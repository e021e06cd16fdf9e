// `powfast bench --browser`: measure, and hand the profile to the command that waits for it.
import { profile } from "./profile.js";

const post = (path, body) => fetch(path, { method: "POST", body: JSON.stringify(body) });

const quick = new URLSearchParams(location.search).has("quick");
try {
  await post("profile", await profile({ quick, onStatus: (what) => void post("status", what) }));
  document.querySelector("p").textContent = "Measured.";
} catch (error) {
  await post("failed", String(error));
}
