"""Jobs may build these classes at a participant, NVFlare's that we use and ours, and no others.

NVFlare 2.9 builds a class of a job without own code only if it stands on the participant's
``class_allow_list``. The list below is written into simulator workspaces and, by provisioning, into
startup kits. It names whole classes, never a package, and a test holds it against the jobs.
"""

_NAMED_BY_COMMITTED_JOBS: tuple[str, ...] = (
    "app_custom.aggregation.aggregator.Aggregator",
    "app_custom.privacy.encryption.aggregator.EncryptedAggregator",
    "app_custom.checkpoints.continuation.Continuation",
    "app_custom.cyclic.RelayRounds",
    "app_custom.cyclic.RelayedModelGenerator",
    "app_custom.executor.translation_executor.TranslationExecutor",
    "app_custom.gates.allowed_peer_message.AllowedPeerMessage",
    "app_custom.gates.allowed_update.AllowedUpdate",
    "app_custom.gates.shared_metrics.SharedCurves",
    "app_custom.privacy.secure_sum.mask_keys.MaskKeys",
    "app_custom.privacy.secure_sum.aggregator.SecureAggregator",
    "app_custom.privacy.secure_sum.rounds.SecureRounds",
    "app_custom.privacy.secure_sum.filters.BeginSum",
    "app_custom.privacy.secure_sum.filters.MaskUpdate",
    "app_custom.privacy.nvflare_filters.PercentileOnUpdates",
    "app_custom.privacy.nvflare_filters.RememberReceived",
    "app_custom.privacy.nvflare_filters.SVTOnUpdates",
    "app_custom.privacy.encryption.filters.Decrypt",
    "app_custom.privacy.encryption.filters.Encrypt",
    "app_custom.privacy.update_filters.AddNoise",
    "app_custom.privacy.update_filters.SpendBudget",
    "app_custom.server.best_model.BestModel",
    "app_custom.server.best_model.SwarmBestModel",
    "app_custom.server.given_model.GivenModel",
    "app_custom.server.global_metrics.GlobalMetrics",
    "app_custom.server.model_files.EncryptedModelFiles",
    "app_custom.server.model_files.ModelFiles",
    "app_custom.server.outgoing_model.FinalModelLocator",
    "app_custom.server.outgoing_model.StrategyModelGenerator",
    "app_custom.server.site_watch.SiteWatch",
    "app_custom.server.translation_models.TranslationModels",
    "app_custom.swarm.final_model.CollectedModel",
    "app_custom.swarm.final_model.FinalSelection",
    "app_custom.swarm.final_model.HeldModels",
    "app_custom.swarm.round_report.RoundReport",
    "app_custom.swarm.rounds.AllAtOnce",
    "app_custom.swarm.rounds.SwarmRounds",
    "app_custom.statistics.site_statistics.SiteStatistics",
    "lightning_modules.sharing.shared_networks.SharedNetworks",
    "nvflare.app_common.ccwf.swarm_client_ctl.SwarmClientController",
    "nvflare.app_common.ccwf.swarm_server_ctl.SwarmServerController",
    "nvflare.app_common.executors.statistics.statistics_executor.StatisticsExecutor",
    "nvflare.app_common.filters.statistics_privacy_filter.StatisticsPrivacyFilter",
    "nvflare.app_common.shareablegenerators.full_model_shareable_generator."
    "FullModelShareableGenerator",
    "nvflare.app_common.statistics.histogram_bins_cleanser.HistogramBinsCleanser",
    "nvflare.app_common.statistics.json_stats_file_persistor.JsonStatsFileWriter",
    "nvflare.app_common.statistics.min_count_cleanser.MinCountCleanser",
    "nvflare.app_common.statistics.min_max_cleanser.AddNoiseToMinMax",
    "nvflare.app_common.workflows.broadcast_and_process.BroadcastAndProcess",
    "nvflare.app_common.workflows.cyclic_ctl.CyclicController",
    "nvflare.app_common.workflows.global_model_eval.GlobalModelEval",
    "nvflare.app_common.workflows.scatter_and_gather.ScatterAndGather",
    "nvflare.app_common.workflows.statistics_controller.StatisticsController",
    "nvflare.app_opt.tracking.tb.tb_receiver.TBAnalyticsReceiver",
    "nvflare.app_opt.tracking.tb.tb_writer.TBWriter",
)

OPTIONAL_CLASSES: tuple[str, ...] = (
    "app_custom.aggregation.compression_filters.Compress",
    "app_custom.aggregation.compression_filters.Restore",
    "app_custom.server.model_files.InitialModel",
    "app_custom.server.planned_rounds.PlannedRounds",
)
"""No committed job names these classes; an exported job may. A filter of one's own is entered here,
see ``docs/howto/add-a-filter.md``."""

ALLOWED_CLASSES: tuple[str, ...] = tuple(sorted((*_NAMED_BY_COMMITTED_JOBS, *OPTIONAL_CLASSES)))
"""The whole list, in order."""
