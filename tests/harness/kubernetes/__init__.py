# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes API for the tests: etcd and kube-apiserver, in processes and a temporary folder of their own.

The fixture ``kubernetes`` is one for the whole test run, and ``namespace`` the name of a namespace of the test's own::

    from tests.harness.kubernetes.fixtures import kubernetes, namespace

    def test_something(kubernetes: Kubernetes, namespace: str) -> None:
        kubernetes.apply(Path("crd.yaml"))
        token = kubernetes.grant(Path("docs/sagemaker_ack/rbac"), namespace)   # the rights that the docs give
        connection = kubernetes.connection(token, namespace)                   # for Airflow, of type kubernetes

By hand, with outages::

    with Kubernetes() as kubernetes:
        kubernetes.stop()              # SIGKILL: connections break, new ones are refused; etcd keeps everything
        kubernetes.start()             # on the same port, with the same certificates, tokens and objects
        kubernetes.freeze()            # SIGSTOP: connections hang
        kubernetes.thaw()
        kubernetes.forget_history()    # watches and lists from an old resourceVersion get 410

There is no kubelet and no controller manager: objects are stored, checked, watched and deleted, but no Pod runs, and
what holds a finalizer stays until the test removes it.

The programs come from the folder that JOBAPI_TEST_KUBERNETES names, else from the cache in the user's home where
``tests/harness/kubernetes/build.sh`` puts what it builds from Debian's source package. Without them the tests are
skipped, which fails under CI.
"""
