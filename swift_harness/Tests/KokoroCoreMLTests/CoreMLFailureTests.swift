#if KOKORO_CORE_ML_STAND_IN
    import CoreML
    import CoreMLSupport
    import SynthesisSupport
    import XCTest

    @testable import KokoroCoreML

    final class CoreMLFailureTests: XCTestCase {
        private let cache = TemporaryFolder()

        override func tearDown() {
            StandIn.reset()
            cache.remove()
        }

        private func assertRefused<Value>(
            _ parts: String..., line: UInt = #line, _ expression: () async throws -> Value
        ) async {
            do {
                _ = try await expression()
                XCTFail("nothing was thrown", line: line)
            } catch KokoroError.package(let message) {
                for part in parts {
                    XCTAssert(message.contains(part), "'\(message)' lacks '\(part)'", line: line)
                }
            } catch {
                XCTFail("not a KokoroError.package: \(error)", line: line)
            }
        }

        private func runner(
            _ folder: BundleFolder, _ stage: PipelineStage = .tail
        ) async throws -> any FunctionRunner {
            try await CoreMLStages(bundle: folder, cache: cache.url).runner(
                for: XCTUnwrap(folder.manifest.pipelineFunction(stage, size: 12)))
        }

        func testAPackageThatIsMissingOrCannotBeLoadedIsNamed() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandIn.reset()
            await assertRefused("loading Tail.mlpackage:frames_12", "no model is registered") {
                try await runner(folder)
            }
            try FileManager.default.removeItem(
                at: bundle.url.appendingPathComponent("Source.mlpackage"))
            await assertRefused("compiling 'Source.mlpackage'", "could not be found") {
                try await runner(folder, .source)
            }
        }

        func testACacheThatCannotBeWrittenIsNamed() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            try Data("a file".utf8).write(to: cache.url)
            await assertRefused("keeping 'Tail.mlpackage' compiled in '\(cache.url.path)") {
                try await runner(folder)
            }
        }

        func testAModelThatIsNotWhatTheManifestSaysIsRefused() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder) { port in
                (
                    PaddedArray.type(port.type),
                    port.name == "hidden" ? port.shape.reversed() : port.shape
                )
            }
            await assertRefused(
                "frames_12 has the input 'hidden' of float16 [60, 2, 2, 1]",
                "manifest says float16 [1, 2, 2, 60]"
            ) { try await runner(folder) }
            StandInNetwork.register(folder) { port in
                (port.name == "audio" ? .double : PaddedArray.type(port.type), port.shape)
            }
            await assertRefused("has the output 'audio' of another type [1, 48]") {
                try await runner(folder)
            }
            let other = try XCTUnwrap(folder.manifest.pipelineFunction(.source, size: 12)).function
            StandIn.register("Tail", ["frames_12": StandInNetwork.model(other)])
            await assertRefused("has the inputs [\"f0\"", "manifest says [\"frames\", \"hidden\"]")
            {
                try await runner(folder)
            }
        }

        func testADescriptionNeedNotGiveTheShapeOfAnOutput() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder) { port in
                (PaddedArray.type(port.type), port.name == "audio" ? [] : port.shape)
            }
            let runner = try await runner(folder)
            try await runner.prewarm()
        }

        func testInputsThatTheFunctionDoesNotTakeAreRefused() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            let runner = try await runner(folder)
            let hidden = Tensor.zeros(.float16, shape: [1, 2, 2, 60])
            let frames = Tensor([Int32(1)], shape: [1])
            await assertRefused("takes 'frames' as int32 [1]") {
                try await runner.predict(["hidden": hidden])
            }
            await assertRefused("takes 'hidden' as float16 [1, 2, 2, 60]") {
                try await runner.predict(["hidden": frames, "frames": frames])
            }
            await assertRefused("has no inputs [\"more\"]") {
                try await runner.predict(["hidden": hidden, "frames": frames, "more": frames])
            }
        }

        func testAPredictionThatFailsOrGivesNoArrayIsNamed() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            let place = try XCTUnwrap(folder.manifest.pipelineFunction(.tail, size: 12))
            let good = StandInNetwork.model(place.function)
            StandIn.register(
                "Tail",
                [
                    "frames_12": StandIn.Function(
                        description: good.standInDescription,
                        run: { _ in throw NSError(domain: "com.apple.CoreML", code: 7) })
                ])
            await assertRefused("running Tail.mlpackage:frames_12", "7") {
                try await runner(folder).prewarm()
            }
            StandIn.register(
                "Tail",
                [
                    "frames_12": StandIn.Function(
                        description: good.standInDescription,
                        run: { _ in ["audio": MLFeatureValue.standInOther()] })
                ])
            await assertRefused("Tail.mlpackage:frames_12 gave no array 'audio'") {
                try await runner(folder).prewarm()
            }
        }

        func testACancelledPredictionIsNoFailureOfThePackage() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            let place = try XCTUnwrap(folder.manifest.pipelineFunction(.tail, size: 12))
            let good = StandInNetwork.model(place.function)
            StandIn.register(
                "Tail",
                [
                    "frames_12": StandIn.Function(
                        description: good.standInDescription,
                        run: { _ in throw CancellationError() })
                ])
            do {
                try await runner(folder).prewarm()
                XCTFail("nothing was thrown")
            } catch { XCTAssert(error is CancellationError, "\(error)") }
        }
    }
#endif
