// @ts-check
// Before a session: what this is, which program to host, and the invitation to join by.

import { h } from "./dom.js";
import { t } from "./texts.js";

/** @returns {import("./screens.js").Screen} */
export function home() {
  return {
    key: "home",
    title: "",
    build: (_state, context) => [
      h("h1", {}, t("home.title")),
      h("p", {}, t("home.what")),
      h("p", { class: "row" },
        h("a", { class: "button main", href: "#/join", "data-testid": "to-join" }, t("home.join"))),
      h("h2", {}, t("home.host")),
      h("p", { class: "quiet" }, t("home.host.how")),
      context.watch((/** @type {any} */ state) => state.programs, (/** @type {any} */ programs) =>
        h("div", { class: "cards" }, programs.map(card))),
    ],
  };
}

/** @param {any} program */
function card(program) {
  return h("section", { class: "card" },
    h("h2", {}, program.title),
    h("p", {}, t("author.says", { what: program.reveals })),
    h("p", { class: "quiet" }, t("people.least", { n: program.least })),
    h("p", { class: "row" },
      h("a", {
        class: "button", href: `#/host/${encodeURIComponent(program.name)}`, "data-testid": `host-${program.name}`,
        "aria-label": `${t("host")}: ${program.title}`,
      }, t("host"))));
}

/**
 * @param {any} program
 * @returns {import("./screens.js").Screen}
 */
export function hosting(program) {
  return {
    key: `host ${program.name}`,
    title: t("host"),
    build: (_state, context) => {
      const people = h("input", {
        id: "people", type: "number", min: program.least, max: 25, value: Math.max(3, program.least), required: true,
        "data-testid": "people",
      });
      const fields = program.public.map((/** @type {any} */ field) => publicField(field));
      return [
        h("h1", {}, program.title),
        h("p", {}, t("author.says", { what: program.reveals })),
        h("form", {
          onsubmit: (/** @type {Event} */ event) => {
            event.preventDefault();
            const given = fields.filter((/** @type {any} */ one) => one.input.value !== "");
            context.send({
              intent: "host", program: program.name, parties: Number(/** @type {any} */ (people).value),
              public: Object.fromEntries(given.map((/** @type {any} */ one) => [one.name, one.input.value])),
            });
          },
        },
          h("div", { class: "field" }, h("label", { for: "people" }, t("host.people")), people),
          fields.map((/** @type {any} */ one) => one.field),
          h("p", { class: "row" },
            h("button", { class: "main", "data-testid": "host-go" }, t("host.go")),
            h("a", { class: "button", href: "#/" }, t("back")))),
      ];
    },
  };
}

/** @param {any} field */
function publicField(field) {
  const id = `public-${field.name}`;
  const input = h("input", {
    id, required: !field.optional, "aria-describedby": `${id}-help`, "data-testid": id, autocomplete: "off",
  });
  return {
    name: field.name,
    input,
    field: h("div", { class: "field" },
      h("label", { for: id }, field.label), input,
      h("p", { id: `${id}-help`, class: "quiet" }, [field.expected, field.help].filter(Boolean).join(". "))),
  };
}

/** @returns {import("./screens.js").Screen} */
export function joining() {
  return {
    key: "join",
    title: t("home.join"),
    build: (_state, context) => {
      const text = h("textarea", {
        id: "invitation", required: true, spellcheck: "false", autocomplete: "off", "data-testid": "invitation",
        "aria-describedby": "invitation-help",
      });
      const refused = h("p", { class: "refused" });
      return [
        h("h1", {}, t("home.join")),
        h("form", {
          onsubmit: async (/** @type {Event} */ event) => {
            event.preventDefault();
            refused.textContent = await context.send({ intent: "join", text: /** @type {any} */ (text).value });
          },
        },
          h("div", { class: "field" },
            h("label", { for: "invitation" }, t("join.paste")), text,
            h("p", { id: "invitation-help", class: "quiet" }, t("join.unused")), refused),
          h("div", { class: "field" },
            h("label", { for: "invitation-file" }, t("join.file")),
            h("input", {
              id: "invitation-file", type: "file", "data-testid": "invitation-file",
              onchange: async (/** @type {any} */ event) => {
                const file = event.target.files[0];
                if (file !== undefined) /** @type {any} */ (text).value = await file.slice(0, 20000).text();
              },
            })),
          h("p", { class: "row" },
            h("button", { class: "main", "data-testid": "join-go" }, t("join.go")),
            h("a", { class: "button", href: "#/" }, t("back")))),
      ];
    },
  };
}
