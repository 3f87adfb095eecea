// @ts-check
// Builds elements. Text becomes text nodes alone: there is no way here to make markup from a string.

/** @typedef {Node | string | number | null | false | undefined | Array<any>} Child */

/**
 * @param {string} tag
 * @param {Record<string, any>} [attributes] "on…" adds a listener, "class" and the others set attributes;
 *   true sets an empty one, and false, null and undefined set none.
 * @param {...Child} children
 * @returns {HTMLElement}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") /** @type {any} */ (element).value = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  append(element, children);
  return element;
}

/**
 * @param {Node} parent
 * @param {Child} child
 */
function append(parent, child) {
  if (Array.isArray(child)) child.forEach((each) => append(parent, each));
  else if (child instanceof Node) parent.appendChild(child);
  else if (child !== null && child !== false && child !== undefined) {
    parent.appendChild(document.createTextNode(String(child)));
  }
}

/**
 * Saves a text as a file.
 * @param {string} name
 * @param {string} text
 * @param {string} type
 */
export function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  URL.revokeObjectURL(url);
}

/**
 * Replaces all that is in an element.
 * @param {Element} parent
 * @param {...Child} children
 */
export function fill(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
}
