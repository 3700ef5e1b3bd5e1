{{/* The container's environment: what the chart knows, then the admin's, which goes before it name by name. */}}
{{- define "mattermost-rtcd.environment" -}}
{{- $configured := include "mattermost-rtcd.configured" . | fromYaml -}}
{{- range include "mattermost-rtcd.ownEnvironment" . | fromYamlArray }}
{{- if not (hasKey $configured .name) }}
{{ toYaml (list .) }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.configuration.environmentVariables }}
- name: {{ $name }}
  value: {{ include "mattermost-rtcd.text" $value | quote }}
{{- end }}
{{- with .Values.configuration.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mattermost-rtcd.ownEnvironment" -}}
- name: RTCD_API_HTTP_LISTENADDRESS
  value: {{ printf ":%v" .Values.service.APIport | quote }}
{{- with .Values.service.monitorPort }}
- name: RTCD_API_MONITOR_LISTENADDRESS
  value: {{ printf ":%v" . | quote }}
{{- end }}
- name: RTCD_RTC_ICEPORTUDP
  value: {{ .Values.service.RTCport | quote }}
- name: RTCD_RTC_ICEPORTTCP
  value: {{ .Values.service.RTCport | quote }}
- name: RTCD_STORE_DATASOURCE
  value: /var/lib/calls-sfu
- name: RTCD_LOGGER_ENABLEFILE
  value: "false"
- name: RTCD_API_SECURITY_ALLOWSELFREGISTRATION
  value: {{ .Values.auth.allowSelfRegistration | quote }}
# What is left half a minute before the kill is ended with a word to its participants.
- name: RTCD_DRAIN_TIMEOUTSECONDS
  value: {{ sub (int .Values.configuration.terminationGracePeriod) 30 | max 0 | quote }}
{{- if .Values.auth.adminSecret }}
- name: RTCD_API_SECURITY_ENABLEADMIN
  value: "true"
- name: RTCD_API_SECURITY_ADMINSECRETKEY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.auth.adminSecret }}
      key: {{ .Values.auth.adminSecretKey }}
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: RTCD_API_HTTP_TLS_ENABLE
  value: "true"
- name: RTCD_API_HTTP_TLS_CERTFILE
  value: /etc/calls-sfu/tls/tls.crt
- name: RTCD_API_HTTP_TLS_CERTKEY
  value: /etc/calls-sfu/tls/tls.key
{{- end }}
{{- if .Values.rtcd.ice.hostOverride }}
- name: RTCD_RTC_ICEHOSTOVERRIDE
  value: {{ .Values.rtcd.ice.hostOverride | quote }}
{{- else if eq .Values.service.type "NodePort" }}
- name: RTCD_RTC_ICEHOSTOVERRIDE
  valueFrom:
    fieldRef:
      fieldPath: status.hostIP
{{- end }}
{{- if and (eq .Values.service.type "NodePort") (not .Values.networking.hostNetwork) }}
- name: RTCD_RTC_ICEHOSTPORTOVERRIDE
  value: {{ .Values.service.RTCnodePort | quote }}
{{- end }}
{{- end -}}

{{/* A port of the container, of a list: root, name, number, protocol. */}}
{{- define "mattermost-rtcd.port" -}}
- name: {{ index . 1 }}
  containerPort: {{ index . 2 }}
  {{- if and (first .).Values.networking.hostNetwork (first .).Values.networking.useHostPort }}
  hostPort: {{ index . 2 }}
  {{- end }}
  protocol: {{ last . }}
{{- end -}}

{{/* Metadata and spec of the pods, for both kinds. */}}
{{- define "mattermost-rtcd.pod" -}}
{{- $scheme := include "mattermost-rtcd.scheme" . -}}
metadata:
  annotations:
    checksum/config: {{ .Values.configFile | sha256sum | trunc 32 }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "mattermost-rtcd.selectorLabels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.networking.hostNetwork }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  serviceAccountName: {{ include "mattermost-rtcd.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  # The end of a pod takes it out of DNS, which sends new calls elsewhere, and SIGTERM lets its own calls end.
  terminationGracePeriodSeconds: {{ .Values.configuration.terminationGracePeriod }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: {{ .Chart.Name }}
      image: {{ include "mattermost-rtcd.image" (list . .Values.image) }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      ports:
        {{- include "mattermost-rtcd.port" (list . "api" .Values.service.APIport "TCP") | nindent 8 }}
        {{- with .Values.service.monitorPort }}
        {{- include "mattermost-rtcd.port" (list $ "monitor" . "TCP") | nindent 8 }}
        {{- end }}
        {{- include "mattermost-rtcd.port" (list . "rtc-udp" .Values.service.RTCport "UDP") | nindent 8 }}
        {{- include "mattermost-rtcd.port" (list . "rtc-tcp" .Values.service.RTCport "TCP") | nindent 8 }}
      env:
        {{- include "mattermost-rtcd.environment" . | trim | nindent 8 }}
      {{- with .Values.configuration.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      startupProbe:
        httpGet: {path: /healthz, port: api, scheme: {{ $scheme }}}
        periodSeconds: 2
        failureThreshold: 60
      {{- range $kind, $path := dict "liveness" "/healthz" "readiness" "/readyz" }}
      {{ $kind }}Probe:
        httpGet: {path: {{ $path }}, port: api, scheme: {{ $scheme }}}
        initialDelaySeconds: {{ get $.Values.configuration (printf "%sProbeInitialDelaySeconds" $kind) }}
        periodSeconds: {{ get $.Values.configuration (printf "%sProbePeriodSeconds" $kind) }}
        timeoutSeconds: {{ get $.Values.configuration (printf "%sProbeTimeoutSeconds" $kind) }}
        failureThreshold: {{ get $.Values.configuration (printf "%sProbeFailureThreshold" $kind) }}
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: state
          mountPath: /var/lib/calls-sfu
        - name: tmp
          mountPath: /tmp
        {{- if .Values.configFile }}
        - name: config
          mountPath: /config
          readOnly: true
        {{- end }}
        {{- if .Values.tls.existingSecret }}
        - name: tls
          mountPath: /etc/calls-sfu/tls
          readOnly: true
        {{- end }}
        {{- with .Values.configuration.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: state
      emptyDir: {}
    - name: tmp
      emptyDir: {}
    {{- if .Values.configFile }}
    - name: config
      configMap:
        name: {{ include "mattermost-rtcd.object" (list . "config") }}
    {{- end }}
    {{- with .Values.tls.existingSecret }}
    - name: tls
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.configuration.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.affinity }}
  affinity:
    {{- toYaml .Values.affinity | nindent 4 }}
  {{- else if eq .Values.deploymentType "deployment" }}
  affinity:
    podAntiAffinity:
      {{- if or .Values.networking.hostNetwork (include "mattermost-rtcd.several" .) }}
      requiredDuringSchedulingIgnoredDuringExecution:
        - topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "mattermost-rtcd.selectorLabels" . | nindent 14 }}
      {{- end }}
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: topology.kubernetes.io/zone
            labelSelector:
              matchLabels:
                {{- include "mattermost-rtcd.selectorLabels" . | nindent 16 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range .Values.topologySpreadConstraints }}
    {{- $own := dict "labelSelector" (dict "matchLabels" (include "mattermost-rtcd.selectorLabels" $ | fromYaml)) }}
    - {{- toYaml (merge (deepCopy .) $own) | nindent 6 }}
    {{- end }}
  {{- end }}
{{- end -}}
