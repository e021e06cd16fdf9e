// Figures as people read them.
const NUMBER = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const UNITS = [["years", 31557600], ["days", 86400], ["h", 3600], ["min", 60], ["s", 1], ["ms", 1e-3]];

export const count = (value) => WHOLE.format(value);

/** Three digits, and millions by their name. */
export function large(value) {
  if (value >= 1e9) return `${NUMBER.format(value / 1e9)} G`;
  return value >= 1e6 ? `${NUMBER.format(value / 1e6)} M` : count(value);
}

/** Large numbers by their power of ten. */
export function power(value) {
  if (value < 1e6) return count(value);
  const [digits, exponent] = value.toExponential(1).split("e+");
  return `${digits} · 10${[...exponent].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("")}`;
}

export const times = (value) => `${value < 10 ? TENTHS.format(value) : large(value)}×`;

export function time(seconds) {
  const [unit, scale] = UNITS.find(([, least]) => seconds >= least) ?? UNITS.at(-1);
  return `${NUMBER.format(seconds / scale)} ${unit}`;
}
