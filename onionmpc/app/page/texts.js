// @ts-check
// The page's words, from one flat catalogue per language. Values are put in as text, never as markup.

/** @type {Record<string, string>} */
let catalogue = {};
let language = "en";

/**
 * @param {string} wanted a language tag such as "de-AT"
 * @param {(path: string) => Promise<any>} load
 */
export async function speak(wanted, load) {
  language = wanted.toLowerCase().startsWith("de") ? "de" : "en";
  catalogue = await load(`texts-${language}.json`);
  document.documentElement.lang = language;
}

/**
 * The text of a key. `{name}` stands for a value. If there is a value `n`, the form for its number is taken:
 * "key.one", "key.other" and so on.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  let text = catalogue[key];
  if (typeof values.n === "number") {
    const form = new Intl.PluralRules(language).select(values.n);
    text = catalogue[`${key}.${form}`] ?? catalogue[`${key}.other`] ?? text;
  }
  if (text === undefined) throw new Error(`no text for ${key}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? new Intl.NumberFormat(language).format(value) : String(value);
  });
}

/**
 * How long something takes, in words.
 * @param {number} seconds
 */
export function seconds(seconds) {
  if (seconds < 90) return t("seconds", { n: Math.max(0, Math.round(seconds)) });
  return t("minutes", { n: Math.round(seconds / 60) });
}
