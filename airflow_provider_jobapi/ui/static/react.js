// SPDX-License-Identifier: Apache-2.0
// Airflow's own React, which its UI offers to plugins. Absent under node, where the pure modules are tested.

export const React = globalThis.React ?? {};
export const h = React.createElement;
