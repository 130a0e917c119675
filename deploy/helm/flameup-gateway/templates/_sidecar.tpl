{{/* The gateway as a native sidecar, for charts that depend on this one: deploy/README.md. */}}
{{- define "flameup-gateway.sidecar" -}}
- name: flameup-gateway
  image: {{ required "an image" .image }}
  restartPolicy: Always
  args: ["serve"]
  env:
    - name: FLAMEUP_GATEWAY__SERVER__LISTEN
      value: "127.0.0.1:8080"
    - name: FLAMEUP_GATEWAY__ADMIN__LISTEN
      value: "0.0.0.0:9090"
    - name: FLAMEUP_GATEWAY__ADMIN__TOKEN_FILE
      value: /run/secrets/flameup-gateway/admin-token
    - name: FLAMEUP_GATEWAY__WORKSPACES__DEFAULT__API_KEY_FILE
      value: /run/secrets/flameup-gateway/flameup-api-key
    - name: FLAMEUP_GATEWAY__CACHE__MAX_BYTES
      value: 64MiB
  ports:
    - name: flameup-admin
      containerPort: 9090
  startupProbe:
    httpGet: {path: /livez, port: flameup-admin}
    periodSeconds: 1
    failureThreshold: 30
  livenessProbe:
    httpGet: {path: /livez, port: flameup-admin}
    periodSeconds: 10
    timeoutSeconds: 2
    failureThreshold: 3
  readinessProbe:
    httpGet: {path: /readyz, port: flameup-admin}
    periodSeconds: 2
    timeoutSeconds: 1
    failureThreshold: 2
  resources:
    requests: {cpu: 20m, memory: 128Mi}
    limits: {memory: 128Mi}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: ["ALL"]
    seccompProfile:
      type: RuntimeDefault
  volumeMounts:
    - name: flameup-gateway-secrets
      mountPath: /run/secrets/flameup-gateway
      readOnly: true
{{- end -}}

{{- define "flameup-gateway.sidecar-volume" -}}
- name: flameup-gateway-secrets
  secret:
    secretName: {{ .existingSecret | default "flameup-gateway" }}
    defaultMode: 0444
{{- end -}}
