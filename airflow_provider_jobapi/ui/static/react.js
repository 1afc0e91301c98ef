// SPDX-License-Identifier: Apache-2.0
// The React of Airflow's UI, which it offers to plugins. Under node, where the unit tests run, there is none.

export const React = globalThis.React ?? {};
export const h = React.createElement;
