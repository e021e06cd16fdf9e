// The page: what its parts do to each other.
import { profile } from "../profile/profile.js";
import { extract } from "./extractor.js";
import * as model from "./model.js";
import { show } from "./operator.js";
import { Pad, picture, repaint } from "./pad.js";
import { count, large, time, times } from "./words.js";

const POLL = 1000; // milliseconds
const LASTING = 250; // milliseconds after which an answer is worth a progress bar
const OPENING = "Somebody extracts with a new account: until that is over every new account pays more, at most an opening in all.";
const BARS = "http://www.w3.org/2000/svg";

const find = (id) => document.getElementById(id);
const say = (text) => (find("said").textContent = text);
const on = (id, act) => find(id).addEventListener("click", act);

let shop; // what the server told: prices, samples, photographs
let drawn = null; // 64 grey values
let asking, playing, measuring; // abort controllers of what is going on
let played = 0; // photographs sent by this visitor's extractor

// You

const pad = new Pad(find("pad"), see, say);

function see(grey) {
  drawn = grey;
  repaint(find("seen"), grey);
  find("seen").setAttribute("aria-label", `What the model sees: ${grey ? "8 by 8 grey squares" : "nothing yet"}`);
  for (const button of find("samples").children) {
    button.setAttribute("aria-pressed", String(grey === shop?.samples[button.value]));
  }
}

on("clear", () => {
  pad.clear();
  say("Nothing drawn.");
  find("pad").focus();
});

on("ask", async () => {
  if (asking) return;
  if (!drawn) return say("Draw a digit first, or take one below the drawing area.");
  asking = new AbortController();
  const lasting = setTimeout(begun, LASTING);
  try {
    const image = drawn;
    const answer = await model.ask(image, { signal: asking.signal, onProgress: progressed, onCredit: showCredit });
    tell({ ...answer, bare: await model.bareSeconds(image), own: ownPrice(await refresh()) });
  } catch (error) {
    find("answer").hidden = true; // it was to another question
    say(reason(error));
  }
  clearTimeout(lasting);
  if (find("solving").contains(document.activeElement)) find("ask").focus();
  find("solving").hidden = true;
  asking = undefined;
  refresh();
});

on("cancel", () => asking?.abort());

function begun() {
  find("bar").value = 0;
  find("stage").textContent = "Asking";
  find("left").textContent = "";
  find("solving").hidden = false;
  say("Solving the proof of work.");
  find("cancel").focus();
}

function progressed({ tried, expected, left }) {
  const share = tried / expected;
  find("bar").value = share;
  find("stage").textContent = `Solving, ${Math.round(100 * share)} %`;
  find("left").textContent = `about ${count(Math.max(left, 1))} s left, ${large(tried)} hashes tried`;
}

function reason(error) {
  if (error.name === "AbortError") return "Cancelled. Ask again when you like: the same question is charged once.";
  if (error.code) return `Refused: ${error.message}`;
  unreachable(true);
  return "No answer: the server cannot be reached.";
}

/** Price of the visitor's own queries in hashes: without what all new accounts owe. */
function ownPrice(view) {
  return (accountOf(view, "visitor")?.price ?? 1) * shop.base_work;
}

function accountOf(view, role) {
  return view?.accounts.find(({ mine, name }) => mine && name.startsWith(role));
}

function showCredit() {
  const { left, ahead, share } = model.credit.visitor;
  const [paid, coming] = [left ?? 0, ahead].map((work) => Math.floor(work / shop.base_work));
  const refill = share < 1 ? ", refilling" : `, ${count(coming)} more go along with the next question`;
  find("credit").value = paid + coming * share;
  find("credit-left").textContent = `Credit left: ${count(paid)} base prices${share > 0 ? refill : ""}`;
}

function tell({ probabilities, tried, price, work, seconds, bare, own }) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  find("answer").hidden = false;
  find("classes").replaceChildren(...probabilities.map((share, digit) => bar(digit, share, digit === best)));
  find("evaluations").textContent = large(tried);
  find("seconds").textContent = time(seconds);
  find("multiple").textContent = times(seconds / bare);
  find("explained").textContent = [
    `The price was ${large(price)} hashes${work ? "" : ", paid from credit"}.`,
    `The bare call, the same model without the gate, takes ${time(bare)} here.`,
    ...(price > 2 * own ? [OPENING] : []),
  ].join(" ");
  say(`The model says ${best}, with ${Math.round(100 * probabilities[best])} per cent. It took ${time(seconds)}.`);
}

function bar(digit, share, best) {
  const line = document.createElement("tr");
  line.className = best ? "best" : "";
  const name = Object.assign(document.createElement("th"), { scope: "row", textContent: digit });
  const picture = document.createElementNS(BARS, "svg");
  picture.setAttribute("aria-hidden", "true");
  const rectangle = document.createElementNS(BARS, "rect");
  rectangle.setAttribute("width", `${Math.max(100 * share, 0.4)}%`);
  rectangle.setAttribute("height", "100%");
  picture.append(rectangle);
  const cell = document.createElement("td");
  cell.append(picture);
  const figure = Object.assign(document.createElement("td"), { textContent: `${(100 * share).toFixed(1)} %` });
  line.append(name, cell, figure);
  return line;
}

function sampleButton(grey, digit) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", value: digit, ariaLabel: `A written ${digit}`, ariaPressed: "false" });
  button.append(picture(grey));
  button.addEventListener("click", () => {
    pad.take(grey);
    say(`A written ${digit} is ready.`);
  });
  return button;
}

// The operator's view and the extractor

function unreachable(yes) {
  find("offline").hidden = !yes;
}

async function refresh() {
  try {
    const view = await model.get("/demo/operator");
    show(view);
    unreachable(false);
    return view;
  } catch {
    unreachable(true);
    return null;
  }
}

async function poll() {
  if (!document.hidden) await refresh();
  setTimeout(poll, POLL);
}

on("extract", async () => {
  if (playing) return playing.abort();
  playing = new AbortController();
  find("extract").textContent = "Stop the extractor";
  find("extracted").textContent = "The extractor asks about photographs.";
  try {
    await extract(shop.photographs, {
      start: played, maxWork: 2 * shop.opening_work, onQuery: sent, signal: playing.signal,
    });
    find("extracted").textContent = find("extracting").textContent;
  } catch (error) {
    find("extracted").textContent = error.name === "AbortError" ? "The extractor stopped." : reason(error);
  }
  playing = undefined;
  find("extract").textContent = "Play the extractor";
  refresh();
});

async function sent({ image, index, paid }) {
  played++;
  if (index === 0) find("sent").replaceChildren();
  find("sent").append(picture(image));
  const view = await refresh();
  const work = (accountOf(view, "extractor")?.price ?? 1) * shop.base_work;
  const here = model.rate ? `, ${time(work / model.rate)} on this device` : "";
  const verdict = paid ? "It pays." : "It does not pay that, and gets no answer.";
  find("extracting").textContent = `Query ${index + 1} costs ${large(work)} hashes${here}. ${verdict}`;
}

on("anew", async () => {
  playing?.abort();
  asking?.abort();
  model.account.anew();
  played = 0;
  find("sent").replaceChildren();
  find("extracting").textContent = "";
  find("extracted").textContent = "Two new accounts.";
  showCredit();
  refresh();
});

// This device

on("measure", async () => {
  if (measuring) return measuring.abort();
  measuring = new AbortController();
  find("measure").textContent = "Stop measuring";
  find("download").hidden = true;
  try {
    offer(await profile({ quick: true, signal: measuring.signal, onStatus: measured }));
  } catch (error) {
    find("measuring").textContent = error.name === "AbortError" ? "Stopped." : reason(error);
  }
  measuring = undefined;
  find("measure").textContent = "Measure this device";
});

let status = "";
function measured(what, share) {
  const next = `Measuring: ${what}`;
  if (next !== status) find("measuring").textContent = status = next; // spoken once per step
  find("measure").textContent = `Stop measuring (${Math.round(100 * share)} %)`;
}

function offer(found) {
  const rows = found.rates.map(({ kernel, threads, hashes_per_second: rate }) => {
    const line = document.createElement("tr");
    const name = Object.assign(document.createElement("th"), { scope: "row", textContent: kernel });
    const cells = [count(threads), (rate / 1e6).toFixed(2)];
    line.append(name, ...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    return line;
  });
  find("rates").replaceChildren(...rows);
  find("rates").closest(".wide").hidden = false;
  const file = new Blob([`${JSON.stringify(found, null, 1)}\n`], { type: "application/json" });
  URL.revokeObjectURL(find("download").href);
  Object.assign(find("download"), { href: URL.createObjectURL(file), download: "profile.json", hidden: false });
  find("measuring").textContent = `Measured. ${found.warnings.join("; ")}`;
}

// Begin

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  repaint(find("seen"), drawn);
  for (const button of find("samples").children) repaint(button.firstChild, shop.samples[button.value]);
});

async function begin() {
  try {
    shop = await model.get("/demo/shop");
  } catch {
    unreachable(true);
    setTimeout(begin, POLL);
    return;
  }
  find("samples").replaceChildren(...shop.samples.map(sampleButton));
  const view = await refresh();
  model.credit.visitor.left ??= view?.credit ?? 0;
  showCredit();
  find("ask").disabled = find("extract").disabled = false;
  poll();
}

begin();
