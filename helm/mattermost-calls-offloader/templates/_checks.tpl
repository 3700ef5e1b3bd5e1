{{/* Combinations that would install and not work, refused by name. */}}
{{- define "mattermost-calls-offloader.checks" -}}
{{- $replicas := int .Values.replicaCount -}}
{{- $named := printf "replicaCount = %d" $replicas -}}
{{- if .Values.autoscaling.enabled -}}
{{- $replicas = int .Values.autoscaling.maxReplicas -}}
{{- $named = printf "autoscaling.maxReplicas = %d" $replicas -}}
{{- if gt (int .Values.autoscaling.minReplicas) $replicas -}}
{{- fail (printf "autoscaling.minReplicas = %d: should be at most autoscaling.maxReplicas = %d" (int .Values.autoscaling.minReplicas) $replicas) -}}
{{- end -}}
{{- if not (or .Values.autoscaling.targetCPUUtilizationPercentage .Values.autoscaling.targetMemoryUtilizationPercentage) -}}
{{- fail "autoscaling.enabled: set autoscaling.targetCPUUtilizationPercentage or autoscaling.targetMemoryUtilizationPercentage" -}}
{{- end -}}
{{- end -}}
{{- if and (gt $replicas 1) (not (include "mattermost-calls-offloader.sharedStore" .)) -}}
{{- fail (printf "%s: more than one replica needs a database that they share: set database.url or database.existingSecret (postgresql://…), or replicaCount to 1 and autoscaling.enabled to false" $named) -}}
{{- end -}}
{{- if and .Values.database.url .Values.database.existingSecret -}}
{{- fail "database.url and database.existingSecret are both set: which one counts?" -}}
{{- end -}}
{{- if and .Values.database.url (not (regexMatch "^postgres(ql)?://" .Values.database.url)) -}}
{{- fail "database.url: should begin with postgresql://" -}}
{{- end -}}
{{- $volumes := list -}}
{{- range list "usePVC" "useEFS" "useNFS" -}}
{{- if get $.Values.volumeConfig . }}{{ $volumes = append $volumes (printf "volumeConfig.%s" .) }}{{ end -}}
{{- end -}}
{{- if gt (len $volumes) 1 -}}
{{- fail (printf "%s are all on: only one of usePVC, useEFS and useNFS can be" (join ", " $volumes)) -}}
{{- end -}}
{{- $configured := include "mattermost-calls-offloader.configured" . | fromYaml -}}
{{- $names := list -}}
{{- range .Values.config -}}
{{- if has .name $names }}{{ fail (printf "config: %s is in it twice" .name) }}{{ end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- with get $configured "JOBS_APITYPE" -}}
{{- if ne . $.Values.jobs.apiType }}{{ fail (printf "config: JOBS_APITYPE = %s: this chart goes by jobs.apiType, kubernetes or celery: leave it out" .) }}{{ end -}}
{{- end -}}
{{- with get $configured "K8S_NAMESPACE" -}}
{{- if and $.Values.rbac.create (ne . $.Release.Namespace) }}{{ fail (printf "config: K8S_NAMESPACE = %s: the Role of this chart is for jobs in the release's namespace, %s: leave it out, or set rbac.create to false and bind a Role there" . $.Release.Namespace) }}{{ end -}}
{{- end -}}
{{- if and .Values.admin.enabled (not .Values.admin.existingSecret) (not (has "API_SECURITY_ADMINSECRETKEY" $names)) (not .Values.envFrom) -}}
{{- fail "admin.enabled needs admin.existingSecret, a Secret with the admin's key" -}}
{{- end -}}
{{- $repository := regexReplaceAll "^(docker.io|index.docker.io)/" .Values.image.repository "" -}}
{{- if eq $repository "mattermost/calls-offloader" -}}
{{- fail (printf "image.repository = %s is the image that this chart replaces: remove it and image.tag from your values, or name your copy of calls-native-offloader/calls-offloader" .Values.image.repository) -}}
{{- end -}}
{{- if regexMatch "^v?0\\.[0-9]+\\.[0-9]+" .Values.image.tag -}}
{{- fail (printf "image.tag = %s is a release of the service that this chart replaces: remove it from your values (this chart: %s)" .Values.image.tag .Chart.AppVersion) -}}
{{- end -}}
{{- if and .Values.jobs.nodeSysctls (not .Values.jobs.privileged) (not (has "SECURITY_CONTEXT_PRIVILEGED" $names)) -}}
{{- fail "jobs.nodeSysctls needs jobs.privileged: kernel parameters are set by a privileged container" -}}
{{- end -}}
{{- if eq .Values.jobs.apiType "celery" }}{{ include "mattermost-calls-offloader.workerChecks" . }}
{{- else if .Values.broker.existingSecret -}}
{{- fail "broker.existingSecret is for workers: set jobs.apiType to celery, or leave it out" -}}
{{- end -}}
{{- with .Values.jobs.copies -}}
{{- if and .existingSecret (not .url) -}}
{{- fail "jobs.copies.existingSecret needs jobs.copies.url, s3://BUCKET[/PREFIX]" -}}
{{- end -}}
{{- if and .url (not .existingSecret) (eq $.Values.jobs.apiType "kubernetes") (not (has "AWS_ACCESS_KEY_ID" $names)) (not $.Values.envFrom) -}}
{{- fail "jobs.copies.url needs jobs.copies.existingSecret, a Secret with the bucket's keys: the jobs' pods have no service account" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled needs ingress.host or ingress.hosts" -}}
{{- end -}}
{{- end -}}

{{/* The same, of jobs on workers. */}}
{{- define "mattermost-calls-offloader.workerChecks" -}}
{{- $names := list -}}
{{- range .Values.config }}{{ $names = append $names .name }}{{ end -}}
{{- if not .Values.broker.existingSecret -}}
{{- fail "jobs.apiType = celery needs broker.existingSecret, a Secret with the URL of a Redis or RabbitMQ: the chart brings none" -}}
{{- end -}}
{{- range list "JOBS_CELERY_BROKERURL" "JOBS_CELERY_QUEUEPREFIX" "OFFLOADER_SECRET_KEY" -}}
{{- if has . $names -}}
{{- fail (printf "config: %s: workers need it, too: set %s" . (get (dict "JOBS_CELERY_BROKERURL" "broker.existingSecret" "JOBS_CELERY_QUEUEPREFIX" "broker.queuePrefix" "OFFLOADER_SECRET_KEY" "secretKey.existingSecret") .)) -}}
{{- end -}}
{{- end -}}
{{- if eq (include "mattermost-calls-offloader.scheme" .) "HTTPS" -}}
{{- fail "tls.existingSecret with jobs.apiType = celery: workers reach the service's pods by their addresses, which no certificate names: let the Ingress have the certificate" -}}
{{- end -}}
{{- range list "privileged" "nodeSysctls" "useReferenceImages" "prepullNodes" "resources" "tolerations" "podTemplate" -}}
{{- if get $.Values.jobs . -}}
{{- fail (printf "jobs.%s is for jobs.apiType = kubernetes: jobs on workers have what `workers` says" .) -}}
{{- end -}}
{{- end -}}
{{- range $suffix, $own := include "mattermost-calls-offloader.workerGroups" . | fromYaml -}}
{{- $value := $suffix | eq "workers" | ternary "workers" (printf "workers.groups.%s" (trimPrefix "workers-" $suffix)) -}}
{{- if and $own.onlyLabelled (not $own.labels) -}}
{{- fail (printf "%s.onlyLabelled needs %s.labels" $value $value) -}}
{{- end -}}
{{- end -}}
{{- range $type, $label := .Values.workers.jobLabels -}}
{{- $found := false -}}
{{- range $suffix, $own := include "mattermost-calls-offloader.workerGroups" $ | fromYaml -}}
{{- if has $label $own.labels }}{{ $found = true }}{{ end -}}
{{- end -}}
{{- if not $found -}}
{{- fail (printf "workers.jobLabels.%s = %s: no worker has that label: set workers.labels or a group's" $type $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
