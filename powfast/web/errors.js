/** Every error that this module raises on purpose; `code` is a short stable word that says why. */
export class PowError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "PowError";
    this.code = code;
  }
}
