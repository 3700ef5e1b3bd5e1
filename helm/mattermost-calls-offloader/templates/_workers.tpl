{{/* "true" when jobs run on workers. */}}
{{- define "mattermost-calls-offloader.onWorkers" -}}
{{- if eq .Values.jobs.apiType "celery" }}true{{ end -}}
{{- end -}}

{{/* The Deployments of workers by suffix, each with its values, as YAML. */}}
{{- define "mattermost-calls-offloader.workerGroups" -}}
{{- $common := omit .Values.workers "groups" -}}
{{- $groups := dict "workers" $common -}}
{{- range $name, $own := .Values.workers.groups -}}
{{- $_ := set $groups (printf "workers-%s" $name) (mergeOverwrite (deepCopy $common) $own) -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end -}}

{{/* What every worker of the release carries. Not the service's labels: its Service must not find them. */}}
{{- define "mattermost-calls-offloader.workerLabels" -}}
app.kubernetes.io/name: {{ printf "%s-worker" (include "mattermost-calls-offloader.name" . | trunc 56 | trimSuffix "-") }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mattermost-calls-offloader.queuePrefix" -}}
{{- .Values.broker.queuePrefix | default (include "mattermost-calls-offloader.fullname" .) -}}
{{- end -}}

{{/* What service and workers have to be told alike. */}}
{{- define "mattermost-calls-offloader.celeryEnvironment" -}}
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: JOBS_CELERY_QUEUEPREFIX
  value: {{ include "mattermost-calls-offloader.queuePrefix" . }}
{{- if .Values.workers.transcribeStage }}
- name: JOBS_CELERY_TRANSCRIBESTAGE
  value: "true"
{{- end }}
{{- with .Values.broker.existingSecret }}
{{ include "mattermost-calls-offloader.fromSecret" (list "JOBS_CELERY_BROKERURL" . $.Values.broker.existingSecretKey) }}
{{- end }}
{{- if .Values.broker.allowInsecure }}
- name: JOBS_CELERY_ALLOWINSECUREBROKER
  value: "true"
{{- end }}
{{- end -}}

{{/* Where jobs copy their files to: the bucket; with workers, else the claim that all of them have. */}}
{{- define "mattermost-calls-offloader.copiesURL" -}}
{{- $mount := include "mattermost-calls-offloader.jobsMount" . | fromYaml -}}
{{- if .Values.jobs.copies.url }}{{ .Values.jobs.copies.url }}
{{- else if and (include "mattermost-calls-offloader.onWorkers" .) $mount }}file://{{ $mount.mountPath }}/copies
{{- end -}}
{{- end -}}

{{- define "mattermost-calls-offloader.copiesEnvironment" -}}
{{- with include "mattermost-calls-offloader.copiesURL" . }}
- name: JOBS_COPIESURL
  value: {{ . }}
{{- end }}
{{- with .Values.jobs.copies }}
{{- if .existingSecret }}
{{ include "mattermost-calls-offloader.fromSecret" (list "AWS_ACCESS_KEY_ID" .existingSecret .accessKeyIDKey) }}
{{ include "mattermost-calls-offloader.fromSecret" (list "AWS_SECRET_ACCESS_KEY" .existingSecret .secretAccessKeyKey) }}
{{- end }}
{{- with .region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- with .endpointURL }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A worker's environment, of a list: root, its values. What its `config` has goes before. */}}
{{- define "mattermost-calls-offloader.workerEnvironment" -}}
{{- $root := first . -}}
{{- $own := last . -}}
{{- $set := dict -}}
{{- range $own.config }}{{ $_ := set $set .name true }}{{ end -}}
{{- range include "mattermost-calls-offloader.ownWorkerEnvironment" . | fromYamlArray }}
{{- if not (hasKey $set .name) }}
{{ toYaml (list .) }}
{{- end }}
{{- end }}
{{- with $own.config }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mattermost-calls-offloader.ownWorkerEnvironment" -}}
{{- $own := last . -}}
{{- with first . -}}
{{ include "mattermost-calls-offloader.celeryEnvironment" . }}
{{ include "mattermost-calls-offloader.fromSecret" (list "OFFLOADER_SECRET_KEY" (include "mattermost-calls-offloader.keySecret" .) (.Values.secretKey.existingSecret | empty | not | ternary .Values.secretKey.existingSecretKey "key")) }}
- name: JOBS_APITYPE
  value: celery
- name: LOGGER_ENABLEFILE
  value: "false"
- name: WORKER_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: WORKER_LISTENADDRESS
  value: {{ printf ":%v" .Values.workers.port | quote }}
- name: WORKER_URL
  value: http://$(POD_IP):{{ .Values.workers.port }}
- name: WORKER_SLOTS
  value: {{ $own.slots | quote }}
- name: WORKER_TRANSCRIBESLOTS
  value: {{ $own.transcribeSlots | quote }}
{{- with $own.labels }}
- name: WORKER_LABELS
  value: {{ join "," . | quote }}
{{- end }}
{{- if $own.onlyLabelled }}
- name: WORKER_ONLYLABELLED
  value: "true"
{{- end }}
{{- with .Values.jobs.modelsClaim }}
- name: JOBS_PROCESS_MODELSDIR
  value: /models
{{- end }}
{{- with .Values.jobs.siteURLOverrides }}
- name: JOBS_SITEURLOVERRIDES
  value: {{ toJson . | quote }}
{{- end }}
{{- if .Values.jobs.caBundle.configMap }}
- name: JOBS_CACERTFILE
  value: /etc/calls-offloader/ca/{{ .Values.jobs.caBundle.key }}
{{- end }}
{{ include "mattermost-calls-offloader.copiesEnvironment" . }}
{{- end }}
{{- end -}}
