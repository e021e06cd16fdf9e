// What the operator sees: a table of accounts, and the price of each query.
import { count, large, power, times } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 62, RIGHT = 470, TOP = 14, BOTTOM = 208, DECADES = 6;
const LEAST_SHOWN = 12; // queries
const GRID = ["1×", "100×", "10⁴×", "10⁶×"];

const find = (id) => document.getElementById(id);

export function show({ accounts, totals }) {
  const rows = accounts.map(row);
  if (rows.length) find("accounts").replaceChildren(...rows);
  find("totals").textContent =
    `${plural(totals.accounts, "account")}, ${plural(totals.queries, "query", "queries")}; ` +
    `${large(totals.asked)} hashes asked for, ${large(totals.redeemed)} paid.`;
  chart(accounts.filter((account) => account.mine));
}

const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
const roleOf = (account) => account.name.split(" ")[0];
const nameOf = (account) => (account.mine ? { visitor: "you", extractor: "your extractor" }[roleOf(account)] : account.name);

function row(account) {
  const line = document.createElement("tr");
  line.className = `${roleOf(account)}${account.mine ? " mine" : ""}`;
  const name = document.createElement("th");
  name.scope = "row";
  name.textContent = nameOf(account);
  const cells = [count(account.queries), won(account.wealth), times(account.price), large(account.redeemed)];
  line.append(name, ...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
  return line;
}

const won = (wealth) => (wealth < 10 ? wealth.toFixed(2) : power(wealth));

function element(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

/** Prices over queries, on a scale where every step is ten times the one below. */
function chart(accounts) {
  const longest = Math.max(LEAST_SHOWN, ...accounts.map((account) => account.prices.length));
  const x = (query) => LEFT + ((RIGHT - LEFT) * query) / longest;
  const y = (price) => BOTTOM - ((BOTTOM - TOP) * Math.log10(Math.max(price, 1))) / DECADES;
  const drawn = [];
  for (const [i, name] of GRID.entries()) {
    const at = y(100 ** i);
    drawn.push(element("line", { x1: LEFT, x2: RIGHT, y1: at, y2: at }));
    drawn.push(element("text", { x: LEFT - 8, y: at + 5, "text-anchor": "end" }, name));
  }
  drawn.push(element("text", { x: LEFT, y: BOTTOM + 22 }, "first query"));
  drawn.push(element("text", { x: RIGHT, y: BOTTOM + 22, "text-anchor": "end" }, `query ${longest}`));
  for (const account of accounts) {
    const kind = roleOf(account), points = account.prices.map((price, i) => [x(i + 1), y(price)]);
    if (!points.length) continue;
    const [endX, endY] = points.at(-1);
    drawn.push(element("polyline", { class: kind, points: points.join(" ") }));
    drawn.push(element("circle", { class: kind, cx: endX, cy: endY, r: 4 }));
    const label = `${nameOf(account)} ${times(account.price)}`;
    const above = endY > TOP + 24 ? -11 : 22;
    drawn.push(element("text", { class: kind, x: Math.max(endX, LEFT + 60), y: endY + above, "text-anchor": endX > 360 ? "end" : "middle" }, label));
  }
  find("chart").replaceChildren(...drawn);
  const spoken = accounts.map((account) => `${nameOf(account)}: ${times(account.price)} after ${plural(account.queries, "query", "queries")}`);
  find("chart").setAttribute("aria-label", `Price of each query. ${spoken.join("; ") || "Nothing asked yet"}`);
}
